"""A look at an open page in one width and one scheme of colours: what a designer would send back."""

from selenium import webdriver

WIDTHS = (400, 1280)
SCHEMES = ("light", "dark")
TEXT_CONTRAST = 4.5
"""The least contrast of text, WCAG 2.2, 1.4.3."""

_FAINT = """
function channels(colour) {
  const numbers = colour.match(/[\\d.]+/g).map(Number);
  return colour.startsWith("color(") ? numbers.map((value, at) => (at < 3 ? 255 * value : value)) : numbers;
}
function luminance([red, green, blue]) {
  const part = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  return 0.2126 * part(red) + 0.7152 * part(green) + 0.0722 * part(blue);
}
function ratio(one, other) {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}
function background(element) {
  for (let at = element; at; at = at.parentElement) {
    const colour = channels(getComputedStyle(at).backgroundColor);
    if (colour[3] !== 0) return colour;
  }
  return [255, 255, 255];
}
const faint = [];
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!own || ["SCRIPT", "NOSCRIPT", "OPTION", "TITLE"].includes(element.tagName.toUpperCase())) continue;
  if (!element.checkVisibility()) continue;
  const style = getComputedStyle(element);
  const value = ratio(channels(element.closest("svg") ? style.fill : style.color), background(element));
  if (value < arguments[0]) faint.push(`${element.tagName} ${element.textContent.slice(0, 40)} ${value.toFixed(2)}`);
}
return faint;
"""

# Scripts that are written without spaces break between any two letters, by their own rules.
_MISPLACED = """
const faults = [];
const page = document.documentElement;
if (page.scrollWidth > page.clientWidth) faults.push(`the page is ${page.scrollWidth} wide`);
for (const box of document.querySelectorAll(".scroll")) {
  if (box.checkVisibility() && box.scrollWidth > box.clientWidth) {
    faults.push(`${box.getAttribute("aria-label")} is ${box.scrollWidth} wide in ${box.clientWidth}`);
  }
}

const word = /(?:(?![\\p{Script=Han}\\p{Script=Hangul}\\p{Script=Hiragana}\\p{Script=Katakana}])[\\p{L}\\p{N}])+/gu;
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const range = document.createRange();
while (texts.nextNode()) {
  const text = texts.currentNode;
  const parent = text.parentElement;
  if (!parent.checkVisibility() || parent.closest("script, style, noscript, select, textarea, svg, .hidden")) continue;
  if (getComputedStyle(parent).textOverflow === "ellipsis") continue; // cut off, and said to be
  for (const found of text.data.matchAll(word)) {
    range.setStart(text, found.index);
    range.setEnd(text, found.index + found[0].length);
    if (range.getClientRects().length > 1) faults.push(`${found[0]} breaks in ${parent.tagName} ${parent.className}`);
  }
}

for (const chart of document.querySelectorAll(".chart")) {
  const room = chart.getBoundingClientRect();
  const labels = [...chart.querySelectorAll("text")].map((label) => [label.textContent, label.getBoundingClientRect()]);
  for (const [at, [text, box]] of labels.entries()) {
    if (box.left < room.left || box.right > room.right) faults.push(`${text} leaves its chart`);
    for (const [other, hit] of labels.slice(at + 1)) {
      const beside = box.right <= hit.left || hit.right <= box.left || box.bottom <= hit.top || hit.bottom <= box.top;
      if (!beside) faults.push(`${text} and ${other} collide`);
    }
  }
}
return faults;
"""


def look(driver: webdriver.Chrome, width: int = 1280, scheme: str = "light", media: str = "") -> None:
    """Sets the width of the page in pixels, and the colours that the reader prefers."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})


def faint(driver: webdriver.Chrome) -> list[str]:
    """The texts with too little contrast to be read."""
    found: list[str] = driver.execute_script(_FAINT, TEXT_CONTRAST)
    return found


def misplaced(driver: webdriver.Chrome) -> list[str]:
    """What overflows sideways, words that break inside, labels of a chart that collide or leave it."""
    found: list[str] = driver.execute_script(_MISPLACED)
    return found
