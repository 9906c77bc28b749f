"use strict";
for (const place of document.querySelectorAll("[data-figure]")) {
  const figure = JSON.parse(document.getElementById(place.dataset.figure).textContent);
  if (figure.data.some((trace) => trace.type === "sunburst")) {
    figure.layout.height = Math.min(figure.layout.height, place.clientWidth); // a circle needs no more on a phone
  }
  place.style.height = `${figure.layout.height}px`; // on a resize Plotly takes the height of the element
  Plotly.newPlot(place, figure.data, figure.layout, { responsive: true, displayModeBar: false, displaylogo: false });
}
