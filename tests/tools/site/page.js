const form = document.querySelector(".filters")
const matrix = document.getElementById("matrix")
const note = document.getElementById("note")
const results = document.getElementById("results")
const articles = [...document.querySelectorAll("article")]
const search = createSearch(documents)
const FIRST = 8  // results shown before "more"

// ---- filters

function chosen() {
  return [...new FormData(form)].map(([name, value]) => [name, value.trim()]).filter(([, value]) => value)
}

function values(name) {
  return chosen().filter(([its]) => its === name).map(([, value]) => value)
}

function isInReleases(article) {
  const torches = values("torch"), [device] = values("devices")
  if (!torches.length && !device) return true
  return article.dataset.in.split(" ").some(column => {
    const [its, minor] = column.split(":")
    return minor && (!device || its === device) && (!torches.length || torches.includes(minor))
  })
}

function matches(article, [name, value]) {
  return name === "q" || name === "torch" || name === "devices" || article.dataset[name].split(" ").includes(value)
}

function apply() {
  const [query] = values("q")
  const found = query ? search(query) : null
  const ids = found && new Set(found.map(({ id }) => id))
  const filters = chosen()
  for (const article of articles) {
    article.hidden = !(isInReleases(article) && filters.every(filter => matches(article, filter)) && (!ids || ids.has(article.id)))
  }
  for (const row of document.querySelectorAll("tr[data-for]")) row.hidden = document.getElementById(row.dataset.for).hidden
  for (const group of matrix.querySelectorAll("tbody")) group.hidden = !group.querySelector("tr[data-for]:not([hidden])")
  for (const section of document.querySelectorAll(".kind")) section.hidden = !section.querySelector("article:not([hidden])")
  const torches = values("torch"), [device] = values("devices")
  for (const cell of document.querySelectorAll("[data-device]")) {
    cell.hidden = Boolean(device && cell.dataset.device !== device) || Boolean(torches.length && !torches.includes(cell.dataset.minor))
  }
  for (const field of form.querySelectorAll("input[type=search], select")) field.classList.toggle("is-set", field.value !== "")
  const shown = articles.filter(article => !article.hidden).length
  document.querySelector(".nothing").hidden = shown > 0
  matrix.querySelector("table").hidden = shown === 0
  document.getElementById("count").textContent =
    shown === articles.length ? `${shown} edge cases` : `${shown} of ${articles.length} edge cases`
  judge(torches)
  list(query, found)
  close()
  rove()
}

// What works, in the chosen releases: a cell of the table is as specified, not in some, or not in any.
function judge(torches) {
  const [module] = values("modules")
  const all = torches.length ? torches : [...form.elements.torch].map(box => box.value)
  for (const part of document.querySelectorAll(".works details")) part.hidden = Boolean(module && part.dataset.module.split(",")[0] !== module)
  for (const cell of document.querySelectorAll(".works td")) {
    const able = all.filter(minor => !cell.dataset.lacking.split(" ").includes(minor)), affected = new Set()
    for (const range of cell.querySelectorAll(".range")) {
      const its = range.dataset.minors.split(" ").filter(minor => able.includes(minor))
      range.hidden = !its.length
      its.forEach(minor => affected.add(minor))
    }
    const [state, glyph, words] = !able.length ? ["not-applicable", "–", "not applicable"]
      : !affected.size ? ["absent", "✓", "as specified"]
      : affected.size < able.length ? ["in-part", "◐", "not as specified in some releases:"] : ["present", "●", "not as specified:"]
    const mark = cell.querySelector(".cell")
    mark.className = `cell ${state}`
    mark.textContent = glyph
    cell.querySelector(".words").textContent = words
  }
}

// ---- results

function list(query, found) {
  results.hidden = !found
  document.querySelector(".decide").hidden = Boolean(found)
  if (!found) return
  const kept = found.filter(({ id, kind }) => kind !== "edge case" || !document.getElementById(id).hidden)
  const items = results.querySelector("ol")
  items.replaceChildren(...kept.map((document_, i) => item(document_, i >= FIRST)))
  const more = results.querySelector(".more")
  more.hidden = kept.length <= FIRST
  more.textContent = `${kept.length - FIRST} more`
  const none = results.querySelector(".none")
  none.hidden = kept.length > 0
  none.querySelector("span").textContent = query
}

function item(found, isHidden) {
  const line = document.createElement("li"), link = document.createElement("a"), kind = document.createElement("span")
  link.href = found.href
  link.textContent = found.title
  kind.className = `kind-of ${found.kind.replace(" ", "-")}`
  kind.textContent = found.kind
  line.append(kind, link)
  if (found.symptom) {
    const symptom = document.createElement("p")
    symptom.append(...found.symptom.split("`").map((text, i) => i % 2 ? code(text) : text))
    line.append(symptom)
  }
  line.hidden = isHidden
  return line
}

function code(text) {
  const element = document.createElement("code")
  element.textContent = text
  return element
}

results.querySelector(".more").addEventListener("click", event => {
  for (const line of results.querySelectorAll("li")) line.hidden = false
  event.target.hidden = true
  results.querySelectorAll("li a")[FIRST].focus()
})

// ---- notes of cells: one cell can be reached by Tab, arrow keys lead to the others

function cells(row) {
  return [...row.querySelectorAll("td.cell:not([hidden])")]
}

function rove() {
  const former = matrix.querySelector("td[tabindex='0']")
  if (former) former.tabIndex = -1
  const first = matrix.querySelector("tr[data-for]:not([hidden]) td.cell:not([hidden])")
  if (first) first.tabIndex = 0
}

function go(cell, down, right) {
  const rows = [...matrix.querySelectorAll("tr[data-for]:not([hidden])")].filter(row => !row.closest("tbody").hidden)
  const row = rows.indexOf(cell.parentElement), column = cells(cell.parentElement).indexOf(cell)
  const target = cells(rows[Math.min(Math.max(row + down, 0), rows.length - 1)])
  const next = target[Math.min(Math.max(column + right, 0), target.length - 1)]
  cell.tabIndex = -1
  next.tabIndex = 0
  next.focus()
}

let opener = null
function open(cell) {
  const row = cell.parentElement
  opener = cell
  note.querySelector("p").textContent = `${cell.title}. ${row.querySelector("th").textContent.trim()}.`
  note.querySelector("a").href = `#${row.dataset.for}`
  note.hidden = false
  const box = cell.getBoundingClientRect(), width = Math.min(320, innerWidth - 24)
  note.style.width = `${width}px`
  note.style.left = `${scrollX + Math.min(Math.max(box.left - width / 2, 12), document.documentElement.clientWidth - width - 12)}px`
  note.style.top = `${scrollY + box.bottom + 6}px`
}

function close() {
  if (note.hidden) return
  note.hidden = true
  if (note.contains(document.activeElement)) opener?.focus()
}

matrix.addEventListener("click", event => {
  const cell = event.target.closest("td.cell")
  if (cell) opener === cell && !note.hidden ? close() : open(cell)
})
matrix.addEventListener("keydown", event => {
  const cell = event.target.closest("td.cell")
  const step = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key]
  if (!cell) return
  if (step) {
    event.preventDefault()
    close()
    go(cell, ...step)
  } else if (event.key === "Enter" || event.key === " ") {
    event.preventDefault()
    open(cell)
    note.querySelector("a").focus()
  }
})
note.querySelector("button").addEventListener("click", close)
note.querySelector("a").addEventListener("click", () => { note.hidden = true })
document.addEventListener("click", event => { if (!event.target.closest("#note, td.cell")) close() })

// ---- addresses

function share() {
  const query = new URLSearchParams(chosen()).toString()
  try { history.replaceState(null, "", (query ? `?${query}` : location.pathname) + location.hash) } catch {}
}

function restore() {
  for (const [name, value] of new URLSearchParams(location.search)) {
    if (name === "torch") for (const box of form.elements.torch) box.checked ||= box.value === value
    else if (form.elements[name]) form.elements[name].value = value
  }
  apply()
}

function clear() {
  for (const field of form.querySelectorAll("input[type=search], select")) field.value = ""
  for (const box of form.elements.torch) box.checked = false
  apply()
  share()
}

function reveal() {  // a link to what the filters hide wins over them
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)))
  if (!target) return
  if (target.closest("[hidden]")) {
    clear()
    history.replaceState(null, "", `${location.pathname}${location.hash}`)
  }
  target.scrollIntoView()
}

form.addEventListener("input", () => { apply(); share() })
form.addEventListener("submit", event => event.preventDefault())
form.addEventListener("reset", event => { event.preventDefault(); clear(); form.elements.q.focus() })
form.addEventListener("click", event => {
  if (!event.target.dataset.query) return
  form.elements.q.value = event.target.dataset.query
  apply()
  share()
})
document.querySelector(".nothing button").addEventListener("click", clear)
addEventListener("popstate", restore)
addEventListener("hashchange", reveal)
addEventListener("keydown", event => {
  const field = form.elements.q
  const isTyping = event.target.matches("input[type=search], select, textarea")
  if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault()
    field.focus()
    field.select()
  } else if (event.key === "Escape" && !note.hidden) {
    close()
  } else if (event.key === "Escape" && chosen().length) {
    event.preventDefault()
    clear()
  } else if (event.key === "Escape" && event.target === field) {
    field.blur()
  }
})
addEventListener("beforeprint", () => { for (const details of document.querySelectorAll("details")) details.open = true })

restore()
matrix.scrollLeft = matrix.scrollWidth  // the newest release, where not all fit
if (location.search || location.hash) reveal()
