"use strict";
// Draws what the page carries in its data element; nothing is fetched, and every text goes in as text.
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const map = L.map("map", { zoomSnap: 0.5, maxZoom: data.map.maxZoom, attributionControl: true });
  map.attributionControl.setPrefix("Leaflet");
  const show = () => { if (data.map.bounds) { map.fitBounds(data.map.bounds, { padding: [12, 12] }); } else { map.setView([0, 0], 2); } };
  show(); // first: layers of lines need a view
  const text = (value) => { const span = document.createElement("span"); span.textContent = value; return span; };
  const Tiles = L.GridLayer.extend({
    createTile: function (coords) {
      const found = data.tiles[coords.z + "/" + coords.x + "/" + coords.y];
      const tile = document.createElement(found ? "img" : "div");
      if (found) { tile.src = found; tile.alt = ""; tile.className = "map-tile"; }
      return tile;
    },
  });
  const layers = {};
  const add = (name, layer, shown) => { layers[name] = layer; if (shown) { layer.addTo(map); } };
  if (data.map.nativeMaxZoom !== null) {
    const attribution = document.createElement("span");
    attribution.textContent = data.map.attribution;
    add("Imagery", new Tiles({ minZoom: 0, maxZoom: data.map.maxZoom, minNativeZoom: data.map.nativeMinZoom,
      maxNativeZoom: data.map.nativeMaxZoom, attribution: attribution.innerHTML }), true);
  }
  if (data.zones) {
    const colours = { poor: "#d7301f", fair: "#fdbb84", good: "#31a354" };
    const zones = L.geoJSON(data.zones, {
      style: (f) => ({ stroke: false, fillOpacity: 0.45, fillColor: colours[f.properties.level] || "#888" }),
      onEachFeature: (f, layer) => layer.bindTooltip(text(String(f.properties.level))),
    });
    zones.on("add", () => zones.bringToBack());
    add("How easily a place is recognised", zones, false);
  }
  if (data.area) { add("Area", L.geoJSON(data.area, { style: { color: "#1f6feb", weight: 2, fillOpacity: 0.06 } }), true); }
  if (data.route.length) {
    add("Route", L.layerGroup(data.route.map((part) => {
      const line = part.closed ? L.polygon(part.points, { color: "#ffd400", weight: 2, fill: false })
        : L.polyline(part.points, { color: "#ffd400", weight: 3 });
      return line.bindTooltip(text(part.why));
    })), true);
  }
  if (data.holes.length) {
    add("Holes", L.layerGroup(data.holes.map((hole) => L.rectangle(hole.bounds,
      { color: "#e00000", weight: 1, fillColor: "#e00000", fillOpacity: 0.5 }).bindTooltip(text(hole.text)))), true);
  }
  if (data.takeoff) {
    add("Take-off", L.circleMarker(data.takeoff, { radius: 8, color: "#fff", weight: 2, fillColor: "#d01c8b", fillOpacity: 1 })
      .bindTooltip(text("take-off")), true);
  }
  L.control.layers(null, layers, { collapsed: false }).addTo(map);
  L.control.scale({ imperial: false }).addTo(map);
  window.addEventListener("beforeprint", () => { map.invalidateSize(false); show(); });
})();
