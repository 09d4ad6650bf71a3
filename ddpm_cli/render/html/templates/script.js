"use strict";

for (const slider of document.querySelectorAll(".slider")) {
  const range = slider.querySelector("input");
  if (!range) continue;
  const pictures = slider.querySelectorAll("img");
  const output = slider.querySelector("output");
  const show = () => {
    pictures.forEach((picture, place) => { picture.hidden = place !== range.valueAsNumber; });
    output.value = pictures[range.valueAsNumber].dataset.label;
    range.setAttribute("aria-valuetext", output.value);
  };
  range.addEventListener("input", show);
  show(); // a reload keeps the slider where it was
}

const root = document.documentElement;
const theme = document.getElementById("theme");
const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme ?? (systemIsDark.matches ? "dark" : "light")) === "dark";

const probe = document.body.appendChild(document.createElement("span"));
probe.hidden = true;
const colour = (name) => {
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
};

function paint() {
  const layout = {
    "font.color": colour("muted"),
    "xaxis.linecolor": colour("line"),
    "yaxis.gridcolor": colour("line"),
    "hoverlabel.bgcolor": colour("raised"),
    "hoverlabel.bordercolor": colour("line"),
    "hoverlabel.font.color": colour("text"),
  };
  for (const plot of document.querySelectorAll(".plotly-graph-div")) {
    const colours = plot.data.map((_, place) => colour(`curve-${place % 2}`));
    Plotly.update(plot, { "line.color": colours, "marker.color": colours }, layout);
  }
  theme.textContent = isDark() ? "Light" : "Dark";
  theme.setAttribute("aria-label", `Switch to the ${isDark() ? "light" : "dark"} look`);
}

theme.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  paint();
});
systemIsDark.addEventListener("change", paint);
paint();
