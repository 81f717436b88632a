// The images of a training: chosen or dropped, shown, sent one after the other, then asked for by their keys.

"use strict";

(() => {
  const {ryla, button, page, find, form} = gallery;
  const drop = find("drop"), input = find("files"), previews = find("previews");
  const FEWEST = 3, MOST = 40;
  let chosen = [];

  function add(files) {
    const images = [...files].filter((file) => file.type.startsWith("image/")).slice(0, MOST - chosen.length);
    for (const file of images) chosen.push({file, url: URL.createObjectURL(file), artifact: null});
    draw();
  }

  function draw() {
    previews.replaceChildren(...chosen.map((one) => {
      const item = document.createElement("li"), image = document.createElement("img");
      const remove = document.createElement("button");
      image.src = one.url;
      image.alt = one.file.name;
      remove.type = "button";
      remove.textContent = "×";
      remove.setAttribute("aria-label", `Remove ${one.file.name}`);
      remove.addEventListener("click", () => {
        URL.revokeObjectURL(one.url);
        chosen = chosen.filter((other) => other !== one);
        draw();
        input.focus();
      });
      item.classList.toggle("sent", one.artifact !== null);
      item.append(image, remove);
      return item;
    }));
  }

  input.addEventListener("change", () => { add(input.files); input.value = ""; });
  for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, () => drop.classList.add("over"));
  for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
  drop.addEventListener("dragover", (event) => event.preventDefault());
  drop.addEventListener("drop", (event) => { event.preventDefault(); add(event.dataTransfer.files); });

  page.wish = async (fields) => {
    if (chosen.length < FEWEST) throw new Error(`Please choose at least ${FEWEST} images.`);
    const words = button.textContent;
    try {
      for (const [number, one] of chosen.entries()) {
        button.textContent = `Sending image ${number + 1} of ${chosen.length}`;
        if (one.artifact === null) {
          one.artifact = (await ryla.upload(one.file).catch((error) => {
            throw Object.assign(error, {message: `${one.file.name}: ${error.message.replace(/^file: /, "")}`, field: ""});
          })).artifact;
        }
        draw();
      }
    } finally {
      button.textContent = words;
    }
    return {trigger_word: fields.get("trigger_word").trim(), base_model: fields.get("base_model"),
      steps: Number(fields.get("steps")), images: chosen.map((one) => one.artifact)};
  };

  page.sent = () => {
    for (const one of chosen) URL.revokeObjectURL(one.url);
    chosen = [];
    draw();
    form.elements.trigger_word.value = "";
  };
})();
