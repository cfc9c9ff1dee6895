// Bakes the DiceBear Pixel Art parts (design CC0 1.0, dicebear.com) into the
// table the Go package train/avatars embeds, and renders the pictures its tests
// compare with.
//
//   npm ci && npm run bake
//
// writes, relative to the repository root,
//
//   train/avatars/parts.json                  every part as 16x16 one-bit layers
//   train/avatars/testdata/references.png     avatars drawn by resvg
//   train/avatars/testdata/references.json    the parts and colours of each
//
// The two ways to a picture share nothing but the SVG source: the table is made
// here by testing pixel centres against the polygons, the references by resvg
// from the whole SVG that createAvatar returns. The output depends only on the
// locked packages, so baking again must leave the tree unchanged.
//
// Two properties of the art are changed, in the table and the references alike,
// because at 16x16 nobody could name what they show:
//   - dark lenses are 30 % black in the source; here 85 %;
//   - a beard is masked by the luminance of its own colour in the source, which
//     hides every dark beard; here it is the colour at 86 % under white at 27 %,
//     as the source shows it with a white mask.

import { mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { createAvatar } from "@dicebear/core";
import * as pixelArt from "@dicebear/pixel-art";
import { Resvg } from "@resvg/resvg-js";

// The package exports no components. Changing these objects also changes what
// createAvatar draws, which is how the references see the edits.
const components = await import(
  new URL("./components/index.js", import.meta.resolve("@dicebear/pixel-art"))
);

const GRID = 16;
const REFERENCES = { columns: 20, rows: 12 };
const output = fileURLToPath(new URL("../../train/avatars/", import.meta.url));

// Bottom to top, as the source's create() concatenates them.
const order = ["skin", "accessories", "clothing", "eyes", "glasses", "beard", "mouth", "hair", "hat"];

// Drawing with these instead of colours leaves each shape's ink in its fill.
const inks = Object.fromEntries(
  ["skin", "accessories", "clothing", "eyes", "glasses", "mouth", "hair", "hat"].map((ink) => [ink, `#${ink}`]),
);
const fixedInks = { "#fff": "white", "#000": "black" };

edit(components.glasses, /^dark/, (svg) =>
  svg.replaceAll('fill="#000" fill-opacity=".3"', 'fill="#000" fill-opacity=".85"'));
edit(components.beard, /./, (svg, colors) => {
  const d = svg.match(/<mask [^>]*><path [^>]*\bd="([^"]*)"/)[1];
  return `<path d="${d}" fill="${colors.hair}" fill-opacity=".86"/><path d="${d}" fill="#fff" fill-opacity=".27"/>`;
});

const table = bakeTable();
mkdirSync(output + "testdata", { recursive: true });
writeFileSync(output + "parts.json", table);
renderReferences();

function edit(parts, names, change) {
  for (const [name, draw] of Object.entries(parts)) {
    if (!names.test(name)) continue;
    parts[name] = (all, colors) => change(draw(all, colors), colors);
    if (parts[name](components, inks) === draw(components, inks)) throw new Error(`${name}: the edit changes nothing`);
  }
}

// bakeTable returns the JSON of {kind: {part: [[ink, alpha 0..255, rows]]}}, kinds
// bottom to top, rows as 16 hex words of 4 digits with column 0 in the high bit.
function bakeTable() {
  const first = { pick: (values) => values[0], bool: () => false };
  const body = pixelArt.create({ prng: first, options: { skinColor: ["skin"] } }).body;
  const kinds = order.map((kind) => {
    const parts = kind === "skin"
      ? { body: () => body }
      : Object.fromEntries(Object.entries(components[kind]).sort(([a], [b]) => (a < b ? -1 : 1)));
    const lines = Object.entries(parts).map(([name, draw]) =>
      `    ${JSON.stringify(name)}: ${JSON.stringify(layers(name, draw(components, inks)))}`);
    return `  ${JSON.stringify(kind)}: {\n${lines.join(",\n")}\n  }`;
  });
  return `{\n${kinds.join(",\n")}\n}\n`;
}

// layers reduces an SVG fragment to one-bit layers of one ink and one opacity.
function layers(name, svg) {
  const result = [];
  const inherited = [{}];
  for (const [tag, closing, element, rest, empty] of svg.matchAll(/<(\/?)(\w+)([^>]*?)(\/?)>/g)) {
    const own = Object.fromEntries([...rest.matchAll(/([\w-]+)="([^"]*)"/g)].map(([, key, value]) => [key, value]));
    const style = { ...inherited.at(-1), ...own };
    if (element === "g" && closing) {
      inherited.pop();
    } else if (element === "g") {
      inherited.push(style);
    } else if (element === "path" && empty) {
      const ink = fixedInks[style.fill] ?? style.fill.slice(1);
      if (!(ink in inks) && !(style.fill in fixedInks)) throw new Error(`${name}: no ink ${style.fill}`);
      result.push({
        ink,
        opacity: Number(style["fill-opacity"] ?? 1),
        bits: rasterise(name, style.d, style["fill-rule"] === "evenodd"),
      });
    } else {
      throw new Error(`${name}: cannot bake ${tag}`);
    }
  }
  return merge(result).map(({ ink, opacity, bits }) => [
    ink,
    Math.round(opacity * 255),
    bits.map((row) => row.toString(16).padStart(4, "0")).join(""),
  ]);
}

// merge joins neighbours of one ink where the order cannot be seen.
function merge(shapes) {
  return shapes.reduce((merged, shape) => {
    const last = merged.at(-1);
    const same = last && last.ink === shape.ink && last.opacity === shape.opacity;
    if (same && (shape.opacity === 1 || last.bits.every((row, y) => (row & shape.bits[y]) === 0))) {
      last.bits = last.bits.map((row, y) => row | shape.bits[y]);
      return merged;
    }
    return [...merged, { ...shape, bits: [...shape.bits] }];
  }, []);
}

// rasterise fills the pixels whose centre lies inside the path, an axis-aligned
// polygon of M, L, H, V and Z commands, and returns 16 rows of 16 bits.
function rasterise(name, d, evenodd) {
  const edges = []; // vertical ones decide: [x, y0, y1]
  let [x, y, startX, startY] = [0, 0, 0, 0];
  const lineTo = (toX, toY) => {
    if (toX !== x && toY !== y) throw new Error(`${name}: slanted edge in ${d}`);
    if (toX === x && toY !== y) edges.push([x, y, toY]);
    [x, y] = [toX, toY];
  };
  for (const [, command, values] of d.matchAll(/([a-zA-Z])([^a-zA-Z]*)/g)) {
    const v = (values.match(/-?(\d+\.?\d*|\.\d+)/g) ?? []).map(Number);
    if (v.some((n) => !Number.isInteger(n))) throw new Error(`${name}: off-grid point in ${d}`);
    const relative = command === command.toLowerCase();
    const [fromX, fromY] = relative ? [x, y] : [0, 0];
    switch (command.toUpperCase()) {
      case "M": [x, y] = [startX, startY] = [fromX + v[0], fromY + v[1]]; break;
      case "L": lineTo(fromX + v[0], fromY + v[1]); break;
      case "H": lineTo(fromX + v[0], y); break;
      case "V": lineTo(x, fromY + v[0]); break;
      case "Z": lineTo(startX, startY); break;
      default: throw new Error(`${name}: path command ${command}`);
    }
    const expected = { M: 2, L: 2, H: 1, V: 1, Z: 0 }[command.toUpperCase()];
    if (v.length !== expected) throw new Error(`${name}: ${command} with ${v.length} numbers in ${d}`);
  }
  return Array.from({ length: GRID }, (_, row) => {
    let bits = 0;
    for (let column = 0; column < GRID; column++) {
      let winding = 0;
      for (const [edge, y0, y1] of edges) {
        const crosses = Math.min(y0, y1) < row + 0.5 && row + 0.5 < Math.max(y0, y1);
        if (crosses && edge > column + 0.5) winding += Math.sign(y1 - y0);
      }
      if (evenodd ? winding % 2 !== 0 : winding !== 0) bits |= 0x8000 >> column;
    }
    return bits;
  });
}

// renderReferences draws avatars with arbitrary colours, every part in turn and
// half of the optional ones left out, and collects them in one sheet, row by row.
function renderReferences() {
  const { columns, rows } = REFERENCES;
  const list = [];
  const pictures = [];
  for (let i = 0; i < columns * rows; i++) {
    const options = { seed: `reference ${i}`, size: GRID, backgroundColor: [colour(i, "background")] };
    for (const kind of order.slice(1)) {
      const names = Object.keys(components[kind]);
      options[kind] = [names[i % names.length]];
      options[`${kind}Probability`] = 50;
    }
    for (const ink of Object.keys(inks)) options[`${ink}Color`] = [colour(i, ink)];
    const { svg, extra } = createAvatar(pixelArt, options).toJson();
    pictures.push(Buffer.from(new Resvg(svg).render().asPng()).toString("base64"));
    list.push({
      background: `#${options.backgroundColor[0]}`,
      parts: Object.fromEntries(order.slice(1).filter((kind) => extra[kind]).map((kind) => [kind, extra[kind]])),
      inks: Object.fromEntries(Object.keys(inks).map((ink) => [ink, `#${options[`${ink}Color`][0]}`])),
    });
  }
  const images = pictures.map((png, i) =>
    `<image x="${(i % columns) * GRID}" y="${Math.floor(i / columns) * GRID}" width="${GRID}" height="${GRID}" ` +
    `image-rendering="optimizeSpeed" href="data:image/png;base64,${png}"/>`);
  const sheet = `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" ` +
    `width="${columns * GRID}" height="${rows * GRID}">${images.join("")}</svg>`;
  writeFileSync(output + "testdata/references.png", new Resvg(sheet).render().asPng());
  writeFileSync(output + "testdata/references.json", `[\n${list.map((entry) => JSON.stringify(entry)).join(",\n")}\n]\n`);
}

// colour is an arbitrary colour that depends on the avatar and the ink alone.
function colour(i, ink) {
  let hash = 2166136261;
  for (const byte of Buffer.from(`${i} ${ink}`)) hash = Math.imul(hash ^ byte, 16777619);
  hash = Math.imul(hash ^ (hash >>> 15), 2246822519);
  return ((hash ^ (hash >>> 13)) & 0xffffff).toString(16).padStart(6, "0");
}
