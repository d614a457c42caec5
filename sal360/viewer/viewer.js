/* A 360 viewer: for every screen pixel, build a ray and look it up in the panorama.
 *
 * Frame: x right, y down, z forward; lon = atan2(x, z) grows to the right, lat = asin(-y)
 * grows up, and the centre of the panorama is (0, 0). Degrees outside the shader.
 * Pixel (i, j) of an H x W panorama is centred on lon = ((j+.5)/W - .5) 360, lat = (.5 - (i+.5)/H) 180.
 *
 *   Sal360Viewer.mount(element, options)    one picture or video: look around, flat, overlay
 *   Sal360Viewer.linked(element, options)   panorama, unit sphere and viewport of one direction
 *   <div data-sal360='{"source": "a.jpg"}'> is mounted when the page is ready
 *
 * element.dataset.ready becomes "webgl", "flat" or "error" once the first picture is drawn.
 */
(function () {
"use strict";

// ---- geometry -----------------------------------------------------------------------------
const RAD = Math.PI / 180;
const clamp = (v, low, high) => Math.min(Math.max(v, low), high);
const wrap = (deg) => ((deg + 180) % 360 + 360) % 360 - 180;
const tan = (deg) => Math.tan(deg * RAD), atan = (t) => Math.atan(t) / RAD;
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];

function toXyz(lon, lat) {
  const c = Math.cos(lat * RAD);
  return [c * Math.sin(lon * RAD), -Math.sin(lat * RAD), c * Math.cos(lon * RAD)];
}
function toLonLat([x, y, z]) {
  return { lon: wrap(Math.atan2(x, z) / RAD), lat: Math.atan2(-y, Math.hypot(x, z)) / RAD };
}
/** Right, down and forward axes of a camera that looks at (lon, lat), without roll. */
function axes({ lon, lat }) {
  const [x, y, z] = toXyz(lon, lat), sin = Math.sin(lon * RAD), cos = Math.cos(lon * RAD);
  return [[cos, 0, -sin], [-y * sin, z * cos + x * sin, -y * cos], [x, y, z]];
}
const combine = (m, a, b, c) => [0, 1, 2].map((k) => m[0][k] * a + m[1][k] * b + m[2][k] * c);

// ---- colour maps: 32 evenly spaced sRGB entries each, linear between (viridis, inferno and
// cividis of matplotlib to 6 levels of 255) ----------------------------------------------------
const MAPS = {
  viridis: "440154470d6048196b482375472e7c4538824142873e4b8a3a548c365d8d32658e2e6e8e2b758e287d8e25848e228d8d" +
    "1f948c1e9c8920a38624ab822db27d39ba7648c16e58c7656acd5b7ed34f92d742a8db34bedf25d4e219e9e519fde725",
  inferno: "0000040303120b0725160c38220c4c310a5d3f09674d0c6c5a116e67166e741b6e811f6c8e24699b2965a82e5fb53359" +
    "c13a50cc4248d74b3fe05536e9602cef6d22f57b17f9890cfb9805fca70cfbb81cf9c82ff6d846f2e863f2f585fcffa4",
  cividis: "00224e00295b002e6c0633721d396f293f6e34446c3d4a6c45506c4d556c555b6d5c616e6367706b6d72727274797877" +
    "807e79888578908b78979177a09775a89e73b0a571b9ab6dc1b26acab965d3c060dcc859e5cf52eed749f8df3bfee838",
  grey: Array.from({ length: 32 }, (_, k) => Math.round(k * 255 / 31).toString(16).padStart(2, "0").repeat(3)).join(""),
};
const NAMES = Object.keys(MAPS);
const LUT = new Uint8Array(NAMES.flatMap((name) =>
  MAPS[name].match(/.{6}/g).flatMap((hex) => [...hex.match(/../g).map((h) => parseInt(h, 16)), 255])));
// How opaque the overlay is where the saliency is s: nothing stays see-through.
const ALPHA = 1.5;  // alpha = opacity * min(1, ALPHA * s)

// ---- the picture, in WebGL ----------------------------------------------------------------
const VERTEX = `attribute vec2 corner; varying vec2 p;
void main() { p = corner; gl_Position = vec4(corner.x, -corner.y, 0., 1.); }`;
// A layer is (W, H, top, share): H rows that fill the given share of its texture.
const FRAGMENT = `precision highp float; varying vec2 p;
uniform sampler2D sceneMap, heatMap, lut; uniform vec4 scene, heat;
uniform mat3 camera; uniform vec2 size, spread; uniform float opacity, lutRow; uniform int mode, taps;
const float PI = 3.14159265359;

// Linear sampling along a row, by hand where the two neighbours lie across the seam.
vec4 row(sampler2D map, vec4 g, float u, float v) {
  float x = u * g.x - .5, y = g.z + v * g.w;
  if (x < 0. || x > g.x - 1.)
    return mix(texture2D(map, vec2(1. - .5 / g.x, y)), texture2D(map, vec2(.5 / g.x, y)), fract(x));
  return texture2D(map, vec2(u, y));
}
// Half a row from the pole, the next pixel is on the opposite meridian.
vec4 panorama(sampler2D map, vec4 g, vec2 uv) {
  float v = clamp(uv.y, .5 / g.y, 1. - .5 / g.y), over = abs(uv.y - v) * g.y;
  vec4 here = row(map, g, uv.x, v);
  return over > 0. ? mix(here, row(map, g, fract(uv.x + .5), v), over) : here;
}
vec3 colour(vec2 uv) {
  vec3 c = panorama(sceneMap, scene, uv).rgb;
  if (opacity <= 0.) return c;
  float s = dot(panorama(heatMap, heat, uv).rgb, vec3(.299, .587, .114));
  vec3 h = texture2D(lut, vec2((s * 31. + .5) / 32., lutRow)).rgb;
  return mix(c, h, opacity * min(1., ${ALPHA.toFixed(1)} * s));
}
vec3 along(vec3 d) {
  return colour(vec2(fract(atan(d.x, d.z) / (2. * PI) + .5), .5 - atan(-d.y, length(d.xz)) / PI));
}
vec4 look(vec2 q) {
  if (mode == 0) return vec4(along(camera * vec3(q * spread, 1.)), 1.);      // a viewport
  if (mode == 1) return vec4(colour(q * .5 + .5), 1.);                        // the panorama itself
  q *= spread;                                                                // the sphere from outside
  float rest = 1. - dot(q, q), depth = sqrt(max(rest, 0.));
  return rest < 0. ? vec4(0.) : vec4(along(camera * vec3(q, -depth)) * mix(.62, 1., depth), 1.);
}
void main() {  // taps x taps rays per pixel where the panorama is finer than the screen
  vec4 sum = vec4(0.);
  for (int i = 0; i < 4; i++) for (int j = 0; j < 4; j++)
    if (i < taps && j < taps) sum += look(p + ((vec2(i, j) + .5) / float(taps) - .5) * 2. / size);
  gl_FragColor = sum / float(taps * taps);
}`;

const sizeOf = (node) => [node.videoWidth || node.naturalWidth || node.width, node.videoHeight || node.naturalHeight || node.height];

/** Draws media into a box of a 2D canvas; `ok` is false where WebGL is absent or lost. */
class Painter {
  constructor(allow, changed) {
    this.canvas = document.createElement("canvas");
    this.layers = [];
    this.ok = allow && this.start();
    this.canvas.addEventListener("webglcontextlost", (e) => { e.preventDefault(); this.ok = false; changed(); });
    this.canvas.addEventListener("webglcontextrestored", () => { this.ok = this.start(); changed(); });
  }
  start() {
    const wish = { alpha: true, antialias: false, depth: false };
    const gl = this.gl = this.canvas.getContext("webgl2", wish) || this.canvas.getContext("webgl", wish);
    if (!gl) return false;
    const program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) return false;
    gl.useProgram(program);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 1, -1, -1, 1, 1, 1]), gl.STATIC_DRAW);
    const corner = gl.getAttribLocation(program, "corner");
    gl.enableVertexAttribArray(corner);
    gl.vertexAttribPointer(corner, 2, gl.FLOAT, false, 0, 0);
    this.at = (name) => gl.getUniformLocation(program, name);
    ["sceneMap", "heatMap", "lut"].forEach((name, unit) => {
      gl.uniform1i(this.at(name), unit);
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
      // No mipmaps (they draw a line at the seam) and no REPEAT (WebGL1 refuses it for most sizes).
      for (const key of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, key, gl.CLAMP_TO_EDGE);
      for (const key of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, key, gl.LINEAR);
    });
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, 32, NAMES.length, 0, gl.RGBA, gl.UNSIGNED_BYTE, LUT);
    this.layers.forEach((node, unit) => this.upload(unit, node));
    return true;
  }
  upload(unit, node) {
    this.layers[unit] = node;
    const gl = this.gl, largest = gl.getParameter(gl.MAX_TEXTURE_SIZE), [w, h] = sizeOf(node);
    let pixels = node;
    if (Math.max(w, h) > largest) {
      pixels = document.createElement("canvas");
      const shrink = largest / Math.max(w, h);
      [pixels.width, pixels.height] = [Math.floor(w * shrink), 2 * Math.floor(h * shrink / 2)];
      pixels.getContext("2d").drawImage(node, 0, 0, pixels.width, pixels.height);
    }
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
    (this.sizes ||= [])[unit] = sizeOf(pixels);
  }
  /** look: {mode, camera, spread, taps, opacity, colormap, stacked}; box: {x, y, w, h} in CSS pixels. */
  draw(ctx, box, scale, look) {
    const { gl, canvas, at } = this, w = Math.round(box.w * scale), h = Math.round(box.h * scale);
    if (canvas.width < w) canvas.width = w;
    if (canvas.height < h) canvas.height = h;
    gl.viewport(0, 0, w, h);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    const heated = look.stacked || this.layers[1], share = look.stacked ? .5 : 1;
    const [sw, sh] = this.sizes[0], [hw, hh] = look.stacked || !heated ? [sw, sh] : this.sizes[1];
    gl.uniform1i(at("heatMap"), look.stacked ? 0 : 1);
    gl.uniform4f(at("scene"), sw, sh * share, 0, share);
    gl.uniform4f(at("heat"), hw, hh * share, look.stacked ? .5 : 0, share);
    gl.uniform1f(at("opacity"), heated ? look.opacity : 0);
    gl.uniform1f(at("lutRow"), (NAMES.indexOf(look.colormap) + .5) / NAMES.length);
    gl.uniform1i(at("mode"), look.mode);
    gl.uniform1i(at("taps"), clamp(Math.ceil(look.fine(sw) / scale / 1.4), 1, 4));
    gl.uniform2f(at("size"), w, h);
    gl.uniform2fv(at("spread"), look.spread || [1, 1]);
    gl.uniformMatrix3fv(at("camera"), false, (look.camera || axes({ lon: 0, lat: 0 })).flat());
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
    ctx.drawImage(canvas, 0, canvas.height - h, w, h, box.x, box.y, box.w, box.h);
  }
}

/** The flat panorama without WebGL: the picture, then the coloured saliency over it. */
function paintPlain(ctx, box, [scene, heat], look) {
  const part = (node, from, share, to, x, y, w, h) => {
    const [nw, nh] = sizeOf(node);
    to.drawImage(node, 0, nh * from, nw, nh * share, x, y, w, h);
  };
  const share = look.stacked ? .5 : 1;
  part(scene, 0, share, ctx, box.x, box.y, box.w, box.h);
  if (!(look.stacked || heat) || look.opacity <= 0) return;
  const sheet = document.createElement("canvas"), paint = sheet.getContext("2d", { willReadFrequently: true });
  [sheet.width, sheet.height] = [512, 256];
  part(look.stacked ? scene : heat, look.stacked ? .5 : 0, share, paint, 0, 0, 512, 256);
  try {
    const image = paint.getImageData(0, 0, 512, 256), d = image.data, base = 32 * NAMES.indexOf(look.colormap);
    for (let k = 0; k < d.length; k += 4) {
      const s = (.299 * d[k] + .587 * d[k + 1] + .114 * d[k + 2]) / 255;
      d.set(LUT.subarray(4 * (base + Math.round(31 * s))).subarray(0, 3), k);
      d[k + 3] = 255 * look.opacity * Math.min(1, ALPHA * s);
    }
    paint.putImageData(image, 0, 0);
    ctx.drawImage(sheet, box.x, box.y, box.w, box.h);
  } catch { /* pixels of another site cannot be read: the picture stays plain */ }
}

// ---- lines over the picture ---------------------------------------------------------------
/** Strokes directions through project(d) -> [x, y] or null, lifting the pen over gaps and jumps. */
function stroke(ctx, directions, project, jump = Infinity) {
  let last = null;
  ctx.beginPath();
  for (const d of directions) {
    const q = project(d);
    if (q) ctx[last && Math.abs(q[0] - last[0]) < jump ? "lineTo" : "moveTo"](q[0], q[1]);
    last = q;
  }
  ctx.stroke();
}
const onFlat = (box) => (d) => {
  const { lon, lat } = toLonLat(d);
  return [box.x + (lon / 360 + .5) * box.w, box.y + (.5 - lat / 180) * box.h];
};
function outline(view, aspect) {
  const m = axes(view), t = tan(view.fov / 2), s = t / aspect, n = 60, edge = [];
  for (let k = 0; k < 4 * n; k++) {
    const f = (k % n) / n * 2 - 1, [a, b] = [[f, -1], [1, f], [-f, 1], [-1, -f]][Math.floor(k / n)];
    edge.push(combine(m, a * t, b * s, 1));
  }
  return [...edge, edge[0]];
}
/** Runs a stroke twice: dark and wide, then light, so that it reads on any picture. */
function haloed(ctx, light, width, line) {
  for (const [style, w] of [["rgba(0,0,0,.55)", width + 2], [light, width]]) {
    ctx.strokeStyle = style;
    ctx.lineWidth = w;
    line();
  }
}
const MARK = "#ffd23f";
function cross(ctx, x, y, hidden) {
  ctx.setLineDash(hidden ? [2, 3] : []);
  haloed(ctx, MARK, 2, () => {
    ctx.beginPath();
    ctx.arc(x, y, 6, 0, 7);
    for (const [a, b] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      ctx.moveTo(x + 6 * a, y + 6 * b);
      ctx.lineTo(x + 12 * a, y + 12 * b);
    }
    ctx.stroke();
  });
  ctx.setLineDash([]);
}
function compass(ctx, x, y, { lon, fov }) {
  const r = 20, up = -Math.PI / 2, wedge = (radius, half) => {
    ctx.beginPath();
    ctx.moveTo(x, y);
    ctx.arc(x, y, radius, up + (lon - half) * RAD, up + (lon + half) * RAD);
    ctx.fill();
  };
  ctx.fillStyle = "rgba(15,18,22,.6)";
  ctx.beginPath();
  ctx.arc(x, y, r + 4, 0, 7);
  ctx.fill();
  ctx.fillStyle = "rgba(255,255,255,.9)";
  wedge(r - 4, fov / 2);
  ctx.strokeStyle = "rgba(255,255,255,.85)";
  ctx.lineWidth = 1.5;
  ctx.beginPath();
  for (let k = 0; k < 4; k++) {  // the long tick is longitude 0
    const a = up + k * Math.PI / 2, inner = k ? r - 1 : r - 4;
    ctx.moveTo(x + inner * Math.cos(a), y + inner * Math.sin(a));
    ctx.lineTo(x + (r + 2) * Math.cos(a), y + (r + 2) * Math.sin(a));
  }
  ctx.stroke();
}

// ---- page parts ---------------------------------------------------------------------------
const STYLE = `
.sal360{--ink:#1f2328;--soft:#59636e;--line:#d0d7de;--card:#fff;--fill:#f3f5f7;--mark:#0b5cad;box-sizing:border-box;display:flex;flex-direction:column;gap:8px;width:100%;min-width:0;color:var(--ink);background:var(--card);font:14px/1.4 system-ui,sans-serif}
.sal360[data-theme=dark]{--ink:#e6e8eb;--soft:#9aa4af;--line:#3d444d;--card:#14181e;--fill:#22272d;--mark:#7ab8f5;color-scheme:dark}
.sal360 *{box-sizing:border-box}.sal360 [hidden]{display:none!important}
.sal360 .s-stage{position:relative;min-height:120px;min-width:0;overflow:hidden;border-radius:6px;background:var(--fill)}
.sal360>.s-stage{flex:1 1 0}
.sal360 canvas{position:absolute;inset:0;width:100%;height:100%;touch-action:none;cursor:grab;border-radius:6px}
.sal360 canvas:active{cursor:grabbing}.sal360 .s-pick canvas{cursor:crosshair}
.sal360 :focus-visible{outline:2px solid var(--mark);outline-offset:-2px}
.sal360 .s-read{position:absolute;left:8px;bottom:8px;padding:2px 8px;border-radius:4px;color:#fff;background:rgba(15,18,22,.6);font-size:12px;font-variant-numeric:tabular-nums;pointer-events:none}
.sal360 .s-bar{display:flex;flex-wrap:wrap;gap:6px 12px;align-items:center}
.sal360 .s-group{display:flex;align-items:center;gap:8px;min-width:0}.sal360 .s-time{flex:1 1 220px}
.sal360 button,.sal360 select{height:34px;min-width:34px;margin:0;padding:0 10px;font:inherit;color:inherit;background:var(--card);border:1px solid var(--line);border-radius:6px;cursor:pointer}
.sal360 .s-two{gap:0}.sal360 .s-two button{border-radius:6px 0 0 6px}.sal360 .s-two button+button{border-radius:0 6px 6px 0;margin-left:-1px}
.sal360 button[aria-pressed=true]{background:var(--mark);border-color:var(--mark);color:var(--card)}
.sal360 button svg{display:block;width:14px;height:14px;fill:currentColor}
.sal360 input[type=range]{height:34px;margin:0;width:110px;min-width:60px;accent-color:var(--mark);cursor:pointer}.sal360 .s-time input{flex:1}
.sal360 label,.sal360 .s-note,.sal360 .s-caption,.sal360 .s-clock{margin:0;color:var(--soft);font-size:13px;font-variant-numeric:tabular-nums}.sal360 .s-caption{text-wrap:pretty}
.sal360-linked{container-type:inline-size;display:block}
.sal360 .s-grid{display:grid;gap:12px 16px;grid-template:"a b c" "r r r" "k k k"/minmax(0,2fr) minmax(0,1fr) minmax(0,1fr)}
.sal360 .s-panel h3{margin:0 0 4px;font:600 13px/1.4 system-ui,sans-serif;white-space:nowrap;overflow:hidden;text-overflow:ellipsis}.sal360 h3 span{color:var(--soft);font-weight:400}
.sal360 .s-panel .s-stage{aspect-ratio:1}.sal360 .s-panel.s-wide .s-stage{aspect-ratio:2}.sal360 .s-bare{background:none}
.sal360 dl{grid-area:r;display:flex;flex-wrap:wrap;gap:6px 32px;margin:0;align-content:start;font-variant-numeric:tabular-nums}
.sal360 dt{color:var(--soft);font-size:12px}.sal360 dd{margin:0;white-space:nowrap}.sal360 .s-grid .s-caption{grid-area:k}
@container (max-width:899px){.sal360 .s-grid{grid-template:"a b" "r c" "k c" 1fr/minmax(0,2fr) minmax(0,1fr)}.sal360 dl{flex-direction:column}}
@container (max-width:559px){.sal360 .s-grid{grid-template:"a" "r" "b" "c" "k"/minmax(0,1fr)}.sal360 .s-panel .s-stage{max-height:280px;width:100%}.sal360 dl{flex-direction:row}}
.sal360 .s-grid.s-flat{grid-template:"a" "r" "k"/minmax(0,1fr)}`;

/** A DOM node: attributes, except that onNAME adds a listener. Children are nodes or text, never HTML. */
function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}
/** The page's own theme where it tells (Jupyter Book, JupyterLab), else the reader's setting. */
function theme() {
  for (const page of [document, window.parent]) {
    try {
      const d = page.document || page, lab = d.body.dataset.jpThemeLight;
      const named = d.documentElement.dataset.theme || (lab && (lab === "true" ? "light" : "dark"));
      if (named) return named;
    } catch { /* another site's page */ }
  }
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}
const signed = (v, digits = 1) => {
  const text = Math.abs(v).toFixed(digits);  // no "-0.0"
  return (v < 0 && Number(text) ? "-" : "+") + text;
};

/** Image or video element, once it has a first picture. */
function load(url, kind) {
  const video = kind ? kind === "video" : /^data:video|\.(mp4|m4v|webm)([?#]|$)/i.test(url);
  const node = document.createElement(video ? "video" : "img");
  const link = new URL(url, document.baseURI);
  if (/^http/.test(link.protocol) && link.origin !== location.origin) node.crossOrigin = "anonymous";
  if (!video) {
    node.src = url;
    return node.decode().then(() => node, () => { throw Error("This picture could not be loaded."); });
  }
  if (url.startsWith("data:")) {  // some browsers play and seek a blob, but not a data URL
    const [head, body] = url.split(","), bytes = Uint8Array.from(atob(body), (c) => c.charCodeAt(0));
    url = URL.createObjectURL(new Blob([bytes], { type: head.slice(5).split(";")[0] }));
  }
  Object.assign(node, { muted: true, loop: true, playsInline: true, preload: "auto", src: url });
  return new Promise((resolve, reject) => {
    node.addEventListener("loadeddata", () => node.videoWidth ? resolve(node) : node.onerror());
    node.onerror = () => reject(Error("This browser cannot play the video."));
  });
}

/** Pointers of one canvas as begin, drag(start, from, to), pinch(start, ratio), tap, zoom(ratio), key. */
function gestures(canvas, on) {
  const points = new Map();
  let start = null;
  const place = (e) => ({ x: e.offsetX, y: e.offsetY, clientX: e.clientX, clientY: e.clientY });
  const span = () => { const [a, b] = [...points.values()]; return b && Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY); };
  const begin = (moved) => {
    const [at] = points.values();
    start = at && { at, span: span(), moved, state: on.begin(at) };
  };
  canvas.addEventListener("pointerdown", (e) => {
    if (e.button || points.size > 1) return;
    canvas.setPointerCapture(e.pointerId);
    canvas.focus({ preventScroll: true });
    points.set(e.pointerId, place(e));
    begin(points.size > 1);
  });
  canvas.addEventListener("pointermove", (e) => {
    if (!points.has(e.pointerId)) return;
    const to = place(e);
    points.set(e.pointerId, to);
    if (points.size > 1) return on.pinch && on.pinch(start.state, start.span / Math.max(span(), 1));
    start.moved ||= Math.hypot(to.clientX - start.at.clientX, to.clientY - start.at.clientY) > 3;
    if (start.moved) on.drag(start.state, start.at, to);
  });
  for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, (e) => {
    if (!points.delete(e.pointerId)) return;
    if (kind === "pointerup" && !start.moved && on.tap) on.tap(place(e));
    begin(true);
  });
  canvas.addEventListener("wheel", (e) => {
    if (!on.zoom || !(e.ctrlKey || (document.hasFocus() && canvas.matches(":focus")))) return;
    e.preventDefault();
    on.zoom(Math.exp(e.deltaY * (e.deltaMode ? .03 : .001)));
  }, { passive: false });
  canvas.addEventListener("keydown", (e) => {
    if (!e.ctrlKey && !e.metaKey && !e.altKey && on.key(e.key, e.shiftKey)) e.preventDefault();
  });
  if (on.reset) canvas.addEventListener("dblclick", on.reset);
}
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

/** The view after the scene has been dragged from one point of a w x h viewport to another. */
function dragged(view, [w, h], from, to) {
  const t = tan(view.fov / 2), angle = (v) => atan((2 * v / w) * t);
  const slow = Math.max(Math.cos(view.lat * RAD), .3);  // meridians meet at the poles
  return {
    lon: view.lon - (angle(to.x - w / 2) - angle(from.x - w / 2)) / slow,
    lat: view.lat + angle(to.y - h / 2) - angle(from.y - h / 2),
  };
}

/** What both figures share: the root, its panels, the media, drawing on demand, events, an end. */
function figure(element, o, className) {
  if (element.sal360) element.sal360.destroy();
  delete element.dataset.ready;
  if (!NAMES.includes(o.colormap)) o.colormap = "viridis";
  if (!document.getElementById("sal360-style")) document.head.append(el("style", { id: "sal360-style" }, STYLE));
  const note = el("p", { class: "s-note", role: "status", hidden: "" });
  const root = el("div", { class: className }), panels = [], listeners = new Set(), undo = [];
  const fig = {
    root, note, panels, media: [], frames: 0, stale: false, painter: null,
    say(text) { note.textContent = text; note.hidden = !text; },
    panel(label, paint, parent = el("div", {})) {
      const canvas = el("canvas", { tabindex: "0", role: "img", "aria-label": label });
      const stage = el("div", { class: "s-stage" }, canvas);
      parent.append(stage);
      panels.push({ canvas, stage, paint });
      sized.observe(stage);
      return { canvas, stage, size: () => [stage.clientWidth, stage.clientHeight] };
    },
    redraw() { pending ||= requestAnimationFrame(fig.draw); },
    draw() {
      cancelAnimationFrame(pending);
      pending = 0;
      if (!fig.media[0]) return;
      fig.frames++;
      if (fig.stale) fig.upload();
      const scale = Math.min(window.devicePixelRatio || 1, 3);
      for (const { canvas, stage, paint } of panels) {
        const w = stage.clientWidth, h = stage.clientHeight;
        if (!w || !h) continue;
        const [dw, dh] = [Math.round(w * scale), Math.round(h * scale)];
        if (canvas.width !== dw || canvas.height !== dh) [canvas.width, canvas.height] = [dw, dh];
        const ctx = canvas.getContext("2d");
        ctx.setTransform(scale, 0, 0, scale, 0, 0);
        ctx.clearRect(0, 0, w, h);
        paint(ctx, w, h, scale);
      }
    },
    picture(ctx, box, scale, look) {
      look = Object.assign({ stacked: o.stacked, opacity: o.opacity, colormap: o.colormap }, look);
      if (fig.painter.ok) fig.painter.draw(ctx, box, scale, look);
      else paintPlain(ctx, box, fig.media, look);
    },
    upload() {
      fig.stale = false;
      try {
        if (fig.painter.ok) fig.media.forEach((node, unit) => fig.painter.upload(unit, node));
      } catch {  // a file:// picture or another site's: readable as a picture, not as a texture
        fig.painter.ok = false;
      }
    },
    on(name, fn) {
      if (name !== "view") throw Error(`on: found ${name}, wanted "view"`);
      listeners.add(fn);
      return () => listeners.delete(fn);
    },
    emit(view) { listeners.forEach((fn) => fn(view)); },
    undo,
    async load() {
      const urls = [o.source, o.saliency].filter(Boolean);
      fig.media = [];
      const media = await Promise.all(urls.map((url, k) => load(url, k ? "image" : o.kind)));
      if (gone) return false;
      fig.media = media;
      fig.painter = new Painter(!o.forceFlat, () => { if (!gone) { fig.changed(); fig.redraw(); } });
      fig.upload();
      fig.changed();
      fig.draw();
      element.dataset.ready = fig.painter.ok ? "webgl" : "flat";
      return true;
    },
    fail(error) {
      fig.say(error.message);
      element.dataset.ready = "error";
    },
    destroy() {
      gone = true;
      cancelAnimationFrame(pending);
      sized.disconnect();
      undo.forEach((fn) => fn());
      const lose = fig.painter && fig.painter.gl && fig.painter.gl.getExtension("WEBGL_lose_context");
      if (lose) lose.loseContext();
      root.remove();
      delete element.sal360;
      delete element.dataset.ready;
    },
  };
  let pending = 0, gone = false;
  const sized = new ResizeObserver(() => fig.redraw());
  const dress = () => { root.dataset.theme = theme(); fig.redraw(); };
  const dark = matchMedia("(prefers-color-scheme: dark)"), watch = new MutationObserver(dress);
  dark.addEventListener("change", dress);
  try { watch.observe(window.parent.document.documentElement, { attributeFilter: ["data-theme"] }); } catch { /* another site's page */ }
  undo.push(() => dark.removeEventListener("change", dress), () => watch.disconnect());
  dress();
  element.append(root);
  return fig;
}
const NO_WEBGL = "WebGL is not available here: the flat panorama is shown instead.";
const lookCamera = (view, w, h) => ({
  mode: 0, camera: axes(view), spread: [tan(view.fov / 2), tan(view.fov / 2) * h / w], fine: (W) => W * view.fov / 360 / w,
});
const inViewport = (view, w, h, x, y) => {
  const t = tan(view.fov / 2);
  return toLonLat(combine(axes(view), (2 * x / w - 1) * t, (2 * y / h - 1) * t * h / w, 1));
};
const onPanorama = (box, x, y) => {
  const u = (x - box.x) / box.w, v = (y - box.y) / box.h;
  return { lon: (u - .5) * 360, lat: (.5 - v) * 180, inside: u >= 0 && u < 1 && v >= 0 && v <= 1 };
};

// ---- the viewer ---------------------------------------------------------------------------
/**
 * options: source (URL), kind ("image" | "video"), saliency (URL of a grey image), stacked (the top
 * half of the source is the picture, the bottom half its saliency), opacity, colormap, lon, lat, fov
 * (horizontal), mode ("look" | "flat"), forceFlat, height (pixels or CSS), caption, alt.
 */
function mount(element, options) {
  const o = Object.assign({ opacity: .6, colormap: "viridis", lon: 0, lat: 0, fov: 90, mode: "look", height: 420 }, options);
  const fig = figure(element, o, "sal360"), view = { mode: o.mode };
  fig.root.style.height = typeof o.height === "number" ? o.height + "px" : o.height;

  const flatBox = (w, h) => {
    const bw = Math.floor(Math.min(w, 2 * h)), bh = Math.round(bw / 2);
    return { x: Math.round((w - bw) / 2), y: Math.round((h - bh) / 2), w: bw, h: bh };
  };
  const flat = () => view.mode === "flat" || !fig.painter || !fig.painter.ok;
  const { canvas, stage, size } = fig.panel(
    `${o.alt || o.caption || "360-degree picture"}. Drag or use the arrow keys to look around, + and - to zoom, 0 to reset.`,
    (ctx, w, h, scale) => {
      if (!flat()) {
        fig.picture(ctx, { x: 0, y: 0, w, h }, scale, lookCamera(view, w, h));
        return compass(ctx, w - 34, 34, view);
      }
      const box = flatBox(w, h);
      fig.picture(ctx, box, scale, { mode: 1, fine: (W) => W / box.w });
      haloed(ctx, MARK, 2, () => stroke(ctx, outline(view, w / h), onFlat(box), box.w / 2));
    }, fig.root);
  const read = el("output", { class: "s-read" });
  stage.append(read);

  function setView(lon = view.lon, lat = view.lat, fov = view.fov) {
    Object.assign(view, { lon: wrap(lon), lat: clamp(lat, -90, 90), fov: clamp(fov, 30, 120) });
    read.textContent = `lon ${signed(view.lon)}°, lat ${signed(view.lat)}°, fov ${view.fov.toFixed(0)}°`;
    fig.redraw();
    fig.emit(getView());
  }
  const getView = () => ({ ...view });
  const reset = () => setView(o.lon, o.lat, o.fov);
  function pickAt(x, y) {
    const [w, h] = size(), p = flat() ? onPanorama(flatBox(w, h), x, y) : { ...inViewport(view, w, h, x, y), inside: true };
    return p.inside ? { lon: wrap(p.lon), lat: p.lat } : null;
  }
  function pick(clientX, clientY) {
    const r = canvas.getBoundingClientRect();
    return clientX < r.left || clientX > r.right || clientY < r.top || clientY > r.bottom ? null : pickAt(clientX - r.left, clientY - r.top);
  }
  const toFlatPoint = (to) => { const p = onPanorama(flatBox(...size()), to.x, to.y); setView(clamp(p.lon, -180, 179.99), p.lat); };
  gestures(canvas, {
    begin: () => ({ ...view }),
    drag(was, from, to) {
      if (flat()) return toFlatPoint(to);
      const now = dragged(was, size(), from, to);
      setView(now.lon, now.lat);
    },
    tap: (at) => { if (flat() && pickAt(at.x, at.y)) toFlatPoint(at); },
    pinch: (was, ratio) => setView(view.lon, view.lat, was.fov * ratio),
    zoom: (ratio) => setView(view.lon, view.lat, view.fov * ratio),
    reset,
    key(key) {
      const step = view.fov / 18;
      if (ARROWS[key]) setView(view.lon + ARROWS[key][0] * step, view.lat + ARROWS[key][1] * step);
      else if (key === "+" || key === "=") setView(view.lon, view.lat, view.fov / 1.1);
      else if (key === "-" || key === "_") setView(view.lon, view.lat, view.fov * 1.1);
      else if (key === "0") reset();
      else if (key === " " && play) play.click();
      else return false;
      return true;
    },
  });

  const bar = el("div", { class: "s-bar" });
  let play = null;
  function videoControls(video) {
    play = el("button", { type: "button", onclick: () => video.paused ? video.play().catch(() => {}) : video.pause() });
    play.innerHTML = '<svg viewBox="0 0 16 16"><path/></svg>';
    const path = play.querySelector("path");
    const scrub = el("input", { type: "range", min: 0, max: 1, step: "any", value: 0, "aria-label": "Time", oninput: () => { video.currentTime = scrub.value * video.duration; } });
    const clock = el("span", { class: "s-clock" });
    bar.prepend(el("div", { class: "s-group s-time" }, play, scrub, clock));
    const time = (s) => `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`;
    const show = () => {
      path.setAttribute("d", video.paused ? "M3 1l11 7-11 7z" : "M2 1h4v14H2zM10 1h4v14h-4z");
      play.setAttribute("aria-label", video.paused ? "Play" : "Pause");
      clock.textContent = `${time(video.currentTime)} / ${time(video.duration || 0)}`;
      if (video.duration && !scrub.matches(":active")) scrub.value = video.currentTime / video.duration;
    };
    const frame = () => { fig.stale = true; fig.redraw(); };
    const follow = video.requestVideoFrameCallback
      ? () => video.requestVideoFrameCallback(() => { frame(); follow(); })
      : () => requestAnimationFrame(() => { if (!video.paused) { frame(); follow(); } });
    follow();
    for (const name of ["play", "pause", "seeked", "timeupdate", "durationchange"]) video.addEventListener(name, () => {
      show();
      if (name === "seeked") frame();
      if (name === "play" && !video.requestVideoFrameCallback) follow();
    });
    show();
    // Plays only while it can be seen; what the reader paused stays paused.
    let ours = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    const sight = new IntersectionObserver(([{ isIntersecting: seen }]) => {
      if (seen && ours) video.play().catch(() => {});
      else if (!seen) { ours = !video.paused || ours && video.currentTime === 0; video.pause(); }
    });
    sight.observe(stage);
    fig.undo.push(() => { sight.disconnect(); video.pause(); URL.revokeObjectURL(video.src); video.removeAttribute("src"); });
  }

  const modes = ["look", "flat"].map((name) => el("button", {
    type: "button", "data-mode": name, onclick: () => { view.mode = name; modeShown(); setView(); },
  }, name === "look" ? "Look around" : "Flat"));
  const modeShown = () => modes.forEach((b) => b.setAttribute("aria-pressed", b.dataset.mode === view.mode));
  const two = el("div", { class: "s-group s-two", role: "group", "aria-label": "Projection" }, ...modes);
  bar.append(two);
  modeShown();
  if (o.saliency || o.stacked) {
    const slider = el("input", { type: "range", min: 0, max: 1, step: .01, value: o.opacity, oninput: () => { o.opacity = Number(slider.value); fig.redraw(); } });
    const chooser = el("select", { "aria-label": "Colour map", onchange: () => { o.colormap = chooser.value; fig.redraw(); } },
      ...NAMES.map((name) => el("option", { value: name }, name)));
    chooser.value = o.colormap;
    bar.append(el("div", { class: "s-group" }, el("label", { class: "s-group" }, "Saliency", slider), chooser));
  }
  fig.root.append(bar, fig.note);
  if (o.caption) fig.root.append(el("p", { class: "s-caption" }, o.caption));

  fig.changed = () => {
    two.hidden = !fig.painter.ok;
    fig.say(fig.painter.ok ? "" : NO_WEBGL);
  };
  reset();
  const api = { setView, getView, pick, on: fig.on, destroy: fig.destroy, get frames() { return fig.frames; } };
  element.sal360 = api;
  fig.load().then((here) => { if (here && fig.media[0].tagName === "VIDEO") videoControls(fig.media[0]); }).catch(fig.fail);
  return api;
}

// ---- the linked figure --------------------------------------------------------------------
/**
 * One direction in three pictures. options: source (URL of an image), height_px and width_px (size of
 * the panorama whose pixels are counted; the crosshair sits on pixel centres), lon, lat, fov,
 * sphere ({lon, lat}: where the sphere is seen from), forceFlat, caption, alt.
 */
function linked(element, options) {
  const o = Object.assign({ height_px: 1024, width_px: 2048, lon: 0, lat: 0, fov: 90, opacity: 0, colormap: "viridis", sphere: { lon: 35, lat: 20 } }, options);
  const fig = figure(element, o, "sal360 sal360-linked"), { height_px: H, width_px: W } = o;
  const view = { fov: clamp(o.fov, 30, 120) }, eye = { lon: wrap(o.sphere.lon + 180), lat: -o.sphere.lat };
  const name = o.alt || o.caption || "360-degree picture";
  const grid = el("div", { class: "s-grid" });
  const section = (area, title, detail, extra = "") => {
    const span = el("span", {}, detail), box = el("div", { class: `s-panel ${extra}`, style: `grid-area:${area}` }, el("h3", {}, title + " ", span));
    grid.append(box);
    return { box, span };
  };

  const getView = () => ({ ...view, xyz: toXyz(view.lon, view.lat) });
  /** Puts the crosshair on the centre of the pixel that holds the direction. */
  function setView(lon = view.lon, lat = view.lat, fov = view.fov) {
    setPixel(Math.floor((.5 - clamp(lat, -90, 90) / 180) * H), Math.floor((wrap(lon) / 360 + .5) * W), fov);
  }
  function setPixel(row, col, fov = view.fov) {
    row = clamp(row, 0, H - 1);
    col = ((col % W) + W) % W;
    Object.assign(view, { row, col, lon: ((col + .5) / W - .5) * 360, lat: (.5 - (row + .5) / H) * 180, fov: clamp(fov, 30, 120) });
    const far = W > 999 ? 2 : 1;
    cells.pixel.textContent = `(${row}, ${col}) of ${H} × ${W}`;
    cells.lonlat.textContent = `${signed(view.lon, far)}°, ${signed(view.lat, far)}°`;
    cells.xyz.textContent = `(${toXyz(view.lon, view.lat).map((v) => signed(v, 3)).join(", ")})`;
    third.span.textContent = `${view.fov.toFixed(0)}° wide`;
    fig.redraw();
    fig.emit(getView());
  }
  const reset = () => setView(o.lon, o.lat, o.fov);
  const zoom = (ratio) => setPixel(view.row, view.col, view.fov * ratio);
  /** Arrows move by about five degrees, with Shift by one pixel. */
  function key(key, shift) {
    const arrow = ARROWS[key], step = shift ? 1 : Math.max(1, Math.round(W / 72));
    if (arrow) setPixel(view.row - arrow[1] * step, view.col + arrow[0] * step);
    else if (key === "0") reset();
    else if (key === "+" || key === "=") zoom(1 / 1.1);
    else if (key === "-" || key === "_") zoom(1.1);
    else return false;
    return true;
  }

  const aspect = () => { const [w, h] = port.size(); return w / h || 1; };

  // (a) the panorama, with its longitudes and latitudes
  const frame = (w, h) => {
    const bw = Math.floor(Math.min(w - 46, 2 * (h - 28))), bh = Math.round(bw / 2);
    return { x: 34 + Math.floor((w - 46 - bw) / 2), y: 7 + Math.floor((h - 28 - bh) / 2), w: bw, h: bh };
  };
  const first = section("a", "Panorama", "longitude across, latitude up", "s-wide");
  const pano = fig.panel(`${name}: panorama with a crosshair. Click, drag or use the arrow keys to move it.`, (ctx, w, h, scale) => {
    const box = frame(w, h), at = onFlat(box);
    fig.picture(ctx, box, scale, { mode: 1, fine: (width) => width / box.w });
    const style = getComputedStyle(fig.root);
    ctx.font = "11px system-ui,sans-serif";
    ctx.fillStyle = style.color;
    ctx.strokeStyle = style.getPropertyValue("--soft");
    ctx.lineWidth = 1;
    ctx.beginPath();
    const everyLon = box.w < 500 ? 90 : 45;
    for (let lon = -180; lon <= 180; lon += everyLon) {
      const x = box.x + (lon / 360 + .5) * box.w;
      ctx.textAlign = "center";
      ctx.textBaseline = "top";
      ctx.fillText(`${lon}°`, Math.min(x, w - 15), box.y + box.h + 7);
      ctx.moveTo(x, box.y + box.h);
      ctx.lineTo(x, box.y + box.h + 4);
    }
    for (let lat = -90; lat <= 90; lat += 45) {
      const y = box.y + (.5 - lat / 180) * box.h;
      ctx.textAlign = "right";
      ctx.textBaseline = "middle";
      ctx.fillText(`${lat}°`, box.x - 7, y);
      ctx.moveTo(box.x - 4, y);
      ctx.lineTo(box.x, y);
    }
    ctx.stroke();
    ctx.save();
    ctx.beginPath();
    ctx.rect(box.x, box.y, box.w, box.h);
    ctx.clip();
    if (box.w / W >= 8) {  // few enough pixels to show them
      ctx.strokeStyle = "rgba(255,255,255,.45)";
      ctx.beginPath();
      for (let j = 0; j <= W; j++) { ctx.moveTo(box.x + j * box.w / W, box.y); ctx.lineTo(box.x + j * box.w / W, box.y + box.h); }
      for (let i = 0; i <= H; i++) { ctx.moveTo(box.x, box.y + i * box.h / H); ctx.lineTo(box.x + box.w, box.y + i * box.h / H); }
      ctx.stroke();
      haloed(ctx, MARK, 2, () => ctx.strokeRect(box.x + view.col * box.w / W, box.y + view.row * box.h / H, box.w / W, box.h / H));
    }
    if (fig.painter.ok) haloed(ctx, "rgba(255,255,255,.9)", 1.5, () => stroke(ctx, outline(view, aspect()), at, box.w / 2));
    cross(ctx, ...at(toXyz(view.lon, view.lat)));
    ctx.restore();
  }, first.box);
  const panoramaAt = (x, y) => onPanorama(frame(...pano.size()), x, y);
  const moveOnPanorama = ({ x, y }) => { const p = panoramaAt(x, y); setView(clamp(p.lon, -180, 180 - 180 / W), p.lat); };
  gestures(pano.canvas, { begin: () => null, drag: (_, __, to) => moveOnPanorama(to), tap: moveOnPanorama, zoom, key, reset });

  // (b) the sphere from outside, orthographic: left and right swap, as on every globe seen from within
  const radius = (w, h) => (Math.min(w, h) / 2 - 9) / 1.46;  // the axes end at 1.32, their letters at 1.46
  const second = section("b", "Unit sphere", "mirrored");
  const ball = fig.panel(`${name}: unit sphere with its x, y and z axes. Click to move the crosshair, drag to turn, or use the arrow keys.`, (ctx, w, h, scale) => {
    const r = radius(w, h), m = axes(eye), place = (d) => [w / 2 + r * dot(m[0], d), h / 2 + r * dot(m[1], d)];
    const near = (d) => dot(m[2], d) <= 0.02 ? place(d) : null, far = (d) => dot(m[2], d) >= -0.02 ? place(d) : null;
    fig.picture(ctx, { x: 0, y: 0, w, h }, scale, { mode: 2, camera: m, spread: [w / 2 / r, h / 2 / r], fine: (width) => width / (2.6 * r) });
    const ring = (f) => Array.from({ length: 121 }, (_, k) => f(3 * k));
    ctx.lineWidth = 1;
    ctx.strokeStyle = "rgba(255,255,255,.6)";
    stroke(ctx, ring((a) => toXyz(a, 0)), near);
    stroke(ctx, ring((a) => [0, Math.cos(a * RAD), Math.sin(a * RAD)]), near);
    const lines = outline(view, aspect()).map((d) => d.map((v) => v / Math.hypot(...d)));
    haloed(ctx, "rgba(255,255,255,.9)", 1.5, () => stroke(ctx, lines, near));
    ctx.setLineDash([2, 4]);
    ctx.strokeStyle = "rgba(255,255,255,.7)";
    stroke(ctx, lines, far);
    ctx.setLineDash([]);
    ctx.font = "600 13px system-ui,sans-serif";
    ctx.textAlign = "center";
    ctx.textBaseline = "middle";
    const night = fig.root.dataset.theme === "dark";
    [["x", "#d55e00", "#f28e4b"], ["y", "#007a58", "#35c79a"], ["z", "#0072b2", "#56b4e9"]].forEach(([letter, day, dark], k) => {
      const unit = [0, 1, 2].map((n) => Number(n === k)), end = place(unit.map((v) => 1.32 * v)), tip = place(unit);
      const reach = Math.hypot(dot(m[0], unit), dot(m[1], unit)), behind = dot(m[2], unit) > 0;
      // An axis behind the sphere comes out from its rim.
      const from = behind ? place(unit.map((v) => v / Math.max(reach, 1e-6))) : tip;
      if (behind && reach < 1 / 1.32) return;
      const colour = night ? dark : day;
      ctx.fillStyle = colour;
      haloed(ctx, colour, 2.5, () => { ctx.beginPath(); ctx.moveTo(...from); ctx.lineTo(...end); ctx.stroke(); });
      if (!behind) { ctx.beginPath(); ctx.arc(...tip, 3.5, 0, 7); ctx.fill(); }
      const label = place(unit.map((v) => 1.46 * v)), push = reach < .25 ? 10 : 0;
      ctx.strokeStyle = getComputedStyle(fig.root).getPropertyValue("--card");
      ctx.lineWidth = 4;
      ctx.lineJoin = "round";
      ctx.strokeText(letter, label[0] + push, label[1]);
      ctx.fillText(letter, label[0] + push, label[1]);
    });
    const mark = toXyz(view.lon, view.lat);
    cross(ctx, ...place(mark), dot(m[2], mark) > 0.02);
  }, second.box);
  ball.stage.classList.add("s-bare");
  pano.stage.classList.add("s-bare", "s-pick");
  function sphereAt(x, y, clip) {
    const [w, h] = ball.size(), r = radius(w, h);
    let a = (x - w / 2) / r, b = (y - h / 2) / r;
    const out = Math.hypot(a, b);
    if (out > 1 && !clip) return null;
    if (out > 1) { a /= out; b /= out; }
    return toLonLat(combine(axes(eye), a, b, -Math.sqrt(Math.max(0, 1 - a * a - b * b))));
  }
  const moveOnSphere = ({ x, y }, clip) => { const p = sphereAt(x, y, clip); if (p) setView(p.lon, p.lat); };
  gestures(ball.canvas, {
    begin({ x, y }) {  // a drag that starts on the crosshair moves it, any other turns the sphere
      const [w, h] = ball.size(), r = radius(w, h), m = axes(eye), d = toXyz(view.lon, view.lat);
      const grabbed = dot(m[2], d) < 0 && Math.hypot(w / 2 + r * dot(m[0], d) - x, h / 2 + r * dot(m[1], d) - y) < 16;
      return { grabbed, r, ...eye };
    },
    drag(was, from, to) {
      if (was.grabbed) return moveOnSphere(to, true);
      eye.lon = wrap(was.lon + (to.x - from.x) / was.r / RAD);
      eye.lat = clamp(was.lat - (to.y - from.y) / was.r / RAD, -89, 89);
      fig.redraw();
    },
    tap: moveOnSphere, zoom, key,
    reset() { Object.assign(eye, { lon: wrap(o.sphere.lon + 180), lat: -o.sphere.lat }); reset(); },
  });

  // (c) the viewport
  const third = section("c", "Viewport", "");
  const port = fig.panel(`${name}: viewport around the crosshair. Drag or use the arrow keys to look around, + and - to zoom.`, (ctx, w, h, scale) => {
    fig.picture(ctx, { x: 0, y: 0, w, h }, scale, lookCamera(view, w, h));
    cross(ctx, w / 2, h / 2);
  }, third.box);
  gestures(port.canvas, {
    begin: () => ({ ...view }),
    drag(was, from, to) {
      const now = dragged(was, port.size(), from, to);
      setView(now.lon, now.lat);
    },
    pinch: (was, ratio) => setPixel(view.row, view.col, was.fov * ratio),
    zoom, key, reset,
  });

  const cells = {};
  grid.append(el("dl", {}, ...[["pixel", "pixel (row, col)"], ["lonlat", "longitude, latitude"], ["xyz", "unit vector (x right, y down, z forward)"]].map(
    ([id, title]) => el("div", {}, el("dt", {}, title), cells[id] = el("dd", { "data-read": id })))));
  if (o.caption) grid.append(el("p", { class: "s-caption" }, o.caption));
  fig.root.append(grid, fig.note);

  function pick(clientX, clientY) {
    const over = (panel) => {
      const r = panel.canvas.getBoundingClientRect();
      return clientX >= r.left && clientX <= r.right && clientY >= r.top && clientY <= r.bottom && [clientX - r.left, clientY - r.top];
    };
    let at, p = null;
    if ((at = over(pano))) { p = panoramaAt(...at); p = p.inside ? { lon: p.lon, lat: p.lat } : null; }
    else if ((at = over(ball))) p = sphereAt(...at);
    else if ((at = over(port))) p = inViewport(view, ...port.size(), ...at);
    return p;
  }
  fig.changed = () => {
    const ok = fig.painter.ok;
    second.box.hidden = third.box.hidden = !ok;
    grid.classList.toggle("s-flat", !ok);
    fig.say(ok ? "" : "WebGL is not available here: the panorama is shown without sphere and viewport.");
  };
  reset();
  const api = { setView, getView, pick, on: fig.on, destroy: fig.destroy, get frames() { return fig.frames; } };
  element.sal360 = api;
  fig.load().catch(fig.fail);
  return api;
}

// ---- elements that ask for a viewer -------------------------------------------------------
window.Sal360Viewer = { mount, linked };
const mountAll = () => document.querySelectorAll("[data-sal360]").forEach((element) => {
  if (!element.sal360) mount(element, JSON.parse(element.dataset.sal360));
});
if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", mountAll);
else mountAll();
})();
