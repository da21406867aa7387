const themes = ["", "light", "dark"]
const theme = document.getElementById("theme")
function paint(name) {
  document.documentElement.dataset.theme = name
  theme.textContent = `Theme: ${name || "auto"}`
  try { localStorage.setItem("theme", name) } catch {}
}
theme.hidden = false
theme.addEventListener("click", () =>
  paint(themes[(themes.indexOf(document.documentElement.dataset.theme) + 1) % themes.length]))
paint(document.documentElement.dataset.theme)

for (const block of document.querySelectorAll(".block")) {
  const button = document.createElement("button")
  const code = block.querySelector("code")
  button.textContent = "Copy"
  button.type = "button"
  button.setAttribute("aria-label", `Copy ${block.dataset.name || "the code"}`)
  block.append(button)
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent + "\n")
      button.textContent = "Copied"
    } catch {
      getSelection().selectAllChildren(code)
      button.textContent = "Selected"
    }
    setTimeout(() => { button.textContent = "Copy" }, 1600)
  })
}
