"use strict";
// Draws the charts of the page in the colours of its theme, and lets the reader change that. Fetches nothing.
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const places = figures.map((_, index) => document.getElementById("c" + index));
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const BUTTONS = [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d", "toImage"]];
  const shade = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();

  function axis(given) {
    return { gridcolor: shade("grid"), zerolinecolor: shade("grid"), linecolor: shade("edge"), automargin: true, ...given };
  }

  function layout(given) {
    const made = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: shade("text"), size: 12 },
      margin: { l: 50, r: 40, t: 8, b: 40 }, hovermode: "x unified", showlegend: true,
      hoverlabel: { bgcolor: shade("card"), bordercolor: shade("edge"), font: { color: shade("text") } },
      modebar: { orientation: "v", bgcolor: "rgba(0,0,0,0)", color: shade("soft"), activecolor: shade("link") },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
      ...given,
    };
    for (const name of new Set(["xaxis", "yaxis", ...Object.keys(given)])) {
      if (/^[xy]axis\d*$/.test(name)) made[name] = axis(given[name]);
    }
    return made;
  }

  function draw() {
    if (!window.Plotly) return;
    figures.forEach((figure, index) => {
      const options = { responsive: true, displaylogo: false, modeBarButtons: BUTTONS };
      Plotly.react(places[index], structuredClone(figure.data), layout(figure.layout), options);
    });
  }

  async function unpacked(text) {
    const bytes = Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  }

  async function load() {
    const packed = document.getElementById("plotly");
    const script = document.createElement("script");
    script.textContent = await unpacked(packed.textContent);
    packed.remove();
    document.head.append(script);
    if (!window.Plotly) throw new Error("the script that draws did not run");
    draw();
    root.dataset.drawn = figures.length;
  }

  function trouble(error) {
    document.getElementById("trouble").hidden = false;
    places.forEach((place) => place.classList.add("empty"));
    document.querySelectorAll("figure details").forEach((values) => { values.open = true; });
    root.dataset.trouble = String(error);
  }

  const button = document.getElementById("theme");
  button.hidden = false;
  button.addEventListener("click", () => {
    const now = root.dataset.theme || (dark.matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    draw();
  });
  dark.addEventListener("change", draw);
  addEventListener("beforeprint", draw);
  if (figures.length) load().catch(trouble);
})();
