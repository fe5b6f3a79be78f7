// Every figure becomes a link to itself, so that it opens as large as it was drawn.
document.addEventListener("DOMContentLoaded", () => {
  for (const image of document.querySelectorAll(".bd-article img")) {
    if (image.closest("a")) continue;
    const link = document.createElement("a");
    link.href = image.src;
    link.className = "enlarge";
    image.replaceWith(link);
    link.append(image);
  }
});
