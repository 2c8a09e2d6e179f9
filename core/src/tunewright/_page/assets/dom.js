// Elements. Texts only ever become text nodes, so no text of a job can become markup or script.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false || child === "") continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

// h("a", {href: "#/", click: go}, "text", [more]): a function among the attributes listens to the event of that name.
export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

export function replace(element, ...children) {
  element.replaceChildren();
  append(element, children);
}

// A part of the page that is drawn again only if what it shows has changed, so that a reader's selection stays.
export function part(element, draw) {
  let shown = null;
  return function (value) {
    const key = JSON.stringify(value);
    if (key === shown) return;
    shown = key;
    replace(element, draw(value));
  };
}
