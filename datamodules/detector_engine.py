"""MediaPipe's hands behind pipes; runs in an environment of its own, as MediaPipe wants NumPy 1.

    .venv-detector/bin/python datamodules/detector_engine.py < pictures > answers

A picture is a line "height width" and height x width x 3 bytes of colours. Its answer is a line of JSON, {"hands":
[{"box": [u, v, width, height], "side": "left", "score": 0.98}, ...]}, the largest first. The box holds all 21 joints;
the score is that it is this side's hand.
"""

import json
import os
import sys

import numpy as np

MOST_HANDS = 4
LEAST_SCORE = 0.3  # of the palm detector
# it takes pictures for those of a mirror
SIDES = {"Left": "right", "Right": "left"}


def main() -> None:
    """Answer until there are no more pictures."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # MediaPipe and its libraries print
    import mediapipe

    hands = mediapipe.solutions.hands.Hands(True, MOST_HANDS, min_detection_confidence=LEAST_SCORE)
    pictures = sys.stdin.buffer
    while line := pictures.readline():
        height, width = map(int, line.split())
        rgb = np.frombuffer(pictures.read(height * width * 3), np.uint8).reshape(height, width, 3)
        print(json.dumps({"hands": found(hands.process(rgb), height, width)}), file=answers, flush=True)


def found(result: object, height: int, width: int) -> list[dict[str, object]]:
    """The hands of a result, the largest first."""
    each = []
    for joints, sides in zip(result.multi_hand_landmarks or (), result.multi_handedness or (), strict=True):
        places = np.array([[joint.x * width, joint.y * height] for joint in joints.landmark])
        low, high = places.min(0), places.max(0)
        side = sides.classification[0]
        each.append({"box": [*low, *(high - low)], "side": SIDES[side.label], "score": side.score})
    return sorted(each, key=lambda hand: -hand["box"][2] * hand["box"][3])


if __name__ == "__main__":
    main()
