"use strict";
// figures: what plotly draws (data, layout); `steps`: what changes in each trace from step to step; `numbers` of
// these steps; `layers`: pictures.
const figures = JSON.parse(document.getElementById("figures").textContent);
const places = [...document.querySelectorAll("[data-figure]")];
const MESH = 2, BONES_AND_JOINTS = [0, 1];

async function loadPlotly() {
  const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
  const source = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(source).text();
  document.head.append(script);
}

function themed(layout) {
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const axis = { gridcolor: css("--line"), zerolinecolor: css("--line"), linecolor: css("--line") };
  const said = { ...layout, font: { color: css("--ink"), family: "inherit", size: 13 },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    hoverlabel: { bgcolor: css("--card"), bordercolor: css("--line"), font: { color: css("--ink") } } };
  for (const name of Object.keys(layout)) if (/^[xy]axis/.test(name)) said[name] = { ...axis, ...layout[name] };
  return said;
}

function draw(place) {
  const figure = figures[place.dataset.figure];
  const { step = 0, shown = "mesh" } = figure;
  const data = figure.data.map((trace, i) => ({ ...trace, ...(figure.steps ? figure.steps[step][i] : {}) }));
  if (data[MESH] && figure.steps) {
    data[MESH].visible = shown !== "joints";
    data[MESH].opacity = shown === "both" ? 0.5 : 1;
    for (const i of BONES_AND_JOINTS) data[i].visible = shown !== "mesh";
  }
  const layout = themed(figure.camera ? { ...figure.layout, scene: { ...figure.layout.scene, camera: figure.camera } } : figure.layout);
  const config = { displaylogo: false, responsive: true, displayModeBar: false };
  return Plotly.react(place, data, layout, config);
}

// browsers keep some 16 3D contexts: only figures near the window have one
function drawNear(entries) {
  for (const { target, isIntersecting } of entries) {
    const drawn = Boolean(target.data);
    if (isIntersecting && !drawn) draw(target);
    if (!isIntersecting && drawn) {
      figures[target.dataset.figure].camera = target.layout.scene && target.layout.scene.camera;
      Plotly.purge(target);
    }
  }
}

function redraw(place) { if (place.data) draw(place); }

function wire(card) {
  const place = card.querySelector("[data-figure]"), figure = figures[place.dataset.figure];
  const overlay = card.querySelector(".overlay"), slider = card.querySelector(".steps input");
  figure.step = figure.steps.length - 1;
  card.querySelector(".show-overlay").addEventListener("change", (event) => { overlay.hidden = !event.target.checked; });
  for (const radio of card.querySelectorAll(".choice input"))
    radio.addEventListener("change", () => { figure.shown = radio.value; redraw(place); });
  if (slider) slider.addEventListener("input", () => {
    figure.step = Number(slider.value);
    card.querySelector("output").textContent = `${figure.numbers[figure.step]} of ${figure.numbers.at(-1)}`;
    for (const [kind, urls] of Object.entries(figure.layers)) card.querySelector(`.${kind}`).src = urls[figure.step];
    redraw(place);
  });
}

document.querySelectorAll(".card").forEach(wire);
loadPlotly().then(() => {
  const watch = new IntersectionObserver(drawNear, { rootMargin: "200px" });
  places.forEach((place) => watch.observe(place));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => places.forEach(redraw));
}).catch((error) => {
  for (const place of places) place.innerHTML = "<p class=problem>This browser cannot unpack the drawing library (it needs DecompressionStream, of 2023 or later).</p>";
  throw error;
});
