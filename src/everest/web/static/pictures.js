"use strict";
// A film is a row of pictures of one size, joined in one image; here it is cut apart again.

class Film {
  constructor(image, count) {
    this.image = image;
    this.count = count;
    this.width = image.naturalWidth / count;
    this.height = image.naturalHeight;
  }

  static async load({ picture, count }) {
    const image = new Image();
    image.src = picture;
    await image.decode();
    return new Film(image, count);
  }

  draw(canvas, number) {
    if (canvas.width !== this.width || canvas.height !== this.height) {
      canvas.width = this.width;
      canvas.height = this.height;
    }
    canvas.getContext("2d").drawImage(
      this.image, number * this.width, 0, this.width, this.height, 0, 0, this.width, this.height);
  }

  canvases(label) {
    return Array.from({ length: this.count }, (_, number) => {
      const canvas = element("canvas", { role: "img", "aria-label": `${label}, ${number + 1} of ${this.count}` });
      this.draw(canvas, number);
      return canvas;
    });
  }
}

// Shows several films at once, all at the same picture.
class Player {
  constructor(canvases) {
    this.canvases = canvases;
    this.films = {};
    this.number = 0;
    this.timer = null;
  }

  show(films) {
    this.films = { ...this.films, ...films };
    this.draw();
  }

  draw() {
    for (const canvas of this.canvases) {
      const film = this.films[canvas.dataset.film];
      if (film) film.draw(canvas, this.number % film.count);
    }
  }

  play(isOn) {
    clearInterval(this.timer);
    this.timer = isOn ? setInterval(() => { this.number += 1; this.draw(); }, 300) : null;
  }
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function row(...children) {
  return element("div", { class: "row" }, ...children);
}

function rowLabel(text) {
  return element("p", { class: "row-label" }, text);
}
