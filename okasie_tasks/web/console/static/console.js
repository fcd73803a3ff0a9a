// What the console does beyond plain pages and forms: live progress, search as you type, pictures when asked for.
"use strict";

const status = document.getElementById("status");

function announce(region) {
  const line = region.querySelector("[data-say]");
  if (line && status.textContent !== line.dataset.say) status.textContent = line.dataset.say;
}

async function fetchPart(address, id) {
  const answer = await fetch(address, { credentials: "same-origin", headers: { Accept: "text/html" } });
  if (answer.redirected) return null; // the session has ended
  if (!answer.ok) throw new Error(String(answer.status));
  return new DOMParser().parseFromString(await answer.text(), "text/html").getElementById(id);
}

// <div id="..." data-live="ADDRESS" data-state="...">: its content follows that of ADDRESS, until the state changes: then
// the whole page is loaded anew.
function follow(region) {
  const again = (seconds) => setTimeout(look, seconds * 1000);
  const look = async () => {
    if (document.hidden) return again(2);
    try {
      const fresh = await fetchPart(region.dataset.live, region.id);
      if (!fresh || fresh.dataset.state !== region.dataset.state) return location.reload();
      if (!region.contains(document.activeElement)) {
        region.replaceChildren(...fresh.childNodes);
        announce(region);
      }
      again(Number(fresh.dataset.seconds));
    } catch {
      again(5);
    }
  };
  again(Number(region.dataset.seconds));
}

// <form data-search="ID">: the element ID is replaced while one types; the address follows, so that it can be shared.
function search(form) {
  const region = document.getElementById(form.dataset.search);
  let timer, newest = 0;
  const look = async () => {
    const mine = ++newest;
    const address = form.getAttribute("action") + "?" + new URLSearchParams(new FormData(form));
    try {
      const fresh = await fetchPart(address, region.id);
      if (mine !== newest) return;
      if (!fresh) return form.submit();
      region.replaceChildren(...fresh.childNodes);
      history.replaceState(null, "", address);
      announce(region);
      showPictures(region);
    } catch {
      if (mine === newest) form.submit();
    }
  };
  const soon = () => { clearTimeout(timer); timer = setTimeout(look, 200); };
  form.addEventListener("input", soon);
  form.addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(timer); look(); });
}

// Pictures lie on foreign servers: they are requested only after the button was pressed.
let pictures = false;

function showPictures(root) {
  if (!pictures) return;
  for (const link of root.querySelectorAll("a[data-picture]")) {
    const image = new Image();
    image.referrerPolicy = "no-referrer";
    image.loading = "lazy";
    image.alt = link.textContent.trim();
    image.addEventListener("error", () => image.replaceWith(image.alt));
    image.src = link.href;
    link.replaceChildren(image);
    delete link.dataset.picture;
  }
}

for (const region of document.querySelectorAll("[data-live]")) follow(region);
for (const form of document.querySelectorAll("form[data-search]")) search(form);
for (const button of document.querySelectorAll("button[data-pictures]")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    pictures = true;
    showPictures(document);
    button.hidden = true;
  });
}
for (const form of document.querySelectorAll('form[method="post"]')) {
  // A form is sent once: a second click would be refused, or ask for the same again.
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "yes";
  });
}
addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
});
