// The search of the page: ranks documents by the words of a query. It touches nothing of the page, so that it runs in
// any JavaScript engine (tests/page/test_search.py).
//
// A document is {id, kind, title, symptom, aliases, text, modules, place}. An alias is a query by which people look for
// the document. Words match exactly or by their beginning; the parts of src_mask match less than the whole.

const WEIGHTS = { aliases: 3, title: 2, symptom: 2, id: 2, text: 0.7, modules: 0.4 }
const PART = 0.45  // of the weight of a whole word
const COMMON = 4  // a word that no document has counts as one that so many have: it may be no term at all
const STOP = new Set(("a an and are as at be by but can could do does for from get gets give gives got had has have how i if in is it its my " +
  "not of on or should so than that the their then there they this to use using was we what when which why will with you " +
  "error runtimeerror after while torch pytorch few epoch epochs sometimes suddenly problem issue bug help please some any " +
  "once amount during even still just really actually correctly properly try trying want").split(" ").map(stem))
const ALSO = byStem({
  sdpa: ["scaled_dot_product_attention"], mha: ["multiheadattention"], amp: ["autocast"], fp16: ["float16"],
  half: ["float16"], bf16: ["bfloat16"], fp32: ["float32"], fp64: ["float64"], double: ["float64"], gpu: ["cuda"],
  inference: ["eval"], validation: ["eval"], evaluation: ["eval"], dynamo: ["compile"], jit: ["torchscript"],
  kvcache: ["cache"], backward: ["gradient"], grad: ["gradient"], mixed: ["autocast"], masked: ["mask"],
  prediction: ["output"], logit: ["output"], smaller: ["shorter"], probability: ["weights"], future: ["causal"],
  depend: ["changes", "different"], vary: ["changes", "different"],
})

function byStem(others) {
  return Object.fromEntries(Object.entries(others).map(([word, its]) => [stem(word), its]))
}

function stem(word) {
  if (/[_.\d-]/.test(word)) return word
  const bare = word.replace(/(ing|ed|es|s|e)$/, (end, _, at) => (at < 3 || (end === "s" && word.endsWith("ss")) ? end : ""))
  return bare.replace(/([bdgmnprt])\1$/, "$1")
}

// [[word, its parts], ...] of a text: src_mask has the parts src and mask, nn.MultiheadAttention its last name.
function words(text) {
  const found = text.toLowerCase().replace(/[’‘]/g, "'").match(/-?\d+(?:\.\d+)?e-?\d+|-inf\b|-\d{3,}|[a-z0-9_]+(?:[.'-][a-z0-9_]+)*/g) || []
  return found.map(word => {
    const bare = word.replace(/'s$|'t$/, "").replace(/^(torch|nn|f)\./, "").replace(/^nn\./, "")
    const parts = bare.split(/[_.'-]+/).filter(part => part && part !== bare)
    return [stem(bare), parts.map(stem)]
  })
}

function createSearch(documents) {
  const prepared = documents.map(document => {
    const terms = new Map()  // word: its highest weight in the document
    const put = (word, weight) => terms.set(word, Math.max(terms.get(word) || 0, weight))
    for (const [field, weight] of Object.entries(WEIGHTS)) {
      for (const text of [document[field] || []].flat()) {
        for (const [word, parts] of words(text)) {
          put(word, weight)
          for (const part of parts) put(part, weight * PART)
        }
      }
    }
    const aliases = (document.aliases || []).map(phrase)
    return { document, terms, aliases }
  })
  const vocabulary = [...new Set(prepared.flatMap(({ terms }) => [...terms.keys()]))].sort()

  // {word of the vocabulary: how well it matches a word of the query, up to 1}
  function matching(word) {
    const found = new Map()
    if (word.length > 1 || /\d/.test(word)) {
      for (const term of vocabulary) {
        if (term === word) found.set(term, 1)
        else if (word.length > 2 && term.startsWith(word)) found.set(term, 0.5 + 0.3 * word.length / term.length)
        else if (term.length > 3 && word.startsWith(term) && /^(i|in|ing|e|ed)$/.test(word.slice(term.length))) found.set(term, 0.6)
      }
    }
    for (const other of ALSO[word] || []) if (vocabulary.includes(stem(other))) found.set(stem(other), Math.max(found.get(stem(other)) || 0, 0.7))
    if (!found.size && word.length > 4) for (const term of vocabulary) if (isNear(word, term)) found.set(term, 0.5)
    return found
  }

  function termsOf(query) {
    const all = words(query)
    const kept = all.filter(([word]) => !STOP.has(word))
    return (kept.length ? kept : all).flatMap(([word, parts]) => {
      const found = matching(word)
      return found.size || !parts.length ? [[word, found]] : parts.map(part => [part, matching(part)])
    })
  }

  // [document, ...], best first; none if the documents have too few words of the query.
  return function search(query) {
    const terms = termsOf(query)
    const asked = phrase(query)
    if (!terms.length) return []
    const rows = terms.map(([, found]) => prepared.map(({ terms }) => {
      let best = 0
      for (const [term, quality] of found) best = Math.max(best, quality * (terms.get(term) || 0))
      return best
    }))
    const rarity = rows.map(row => Math.log(1 + prepared.length / (row.some(Boolean) ? 0.5 + row.filter(Boolean).length : COMMON)))
    const total = rarity.reduce((sum, value) => sum + value, 0)
    const needed = terms.length > 6 ? 0.35 : 0.55
    return prepared
      .map(({ document, aliases }, i) => {
        let score = 0, covered = 0
        rows.forEach((row, j) => {
          score += rarity[j] * row[i]
          covered += rarity[j] * (row[i] > 0)
        })
        const bonus = Math.max(0, ...aliases.map(alias => likeness(alias, asked)))
        const share = covered / total
        const isFound = share >= needed || bonus >= 5
        return { document, score: isFound ? score * share * share + bonus * 2 - (document.place || 0) / 100 : -1 }
      })
      .filter(({ score }) => score > 0)
      .sort((one, other) => other.score - one.score)
      .map(({ document }) => document)
  }
}

// The words of a text between spaces, with a space at either end.
function phrase(text) {
  return ` ${words(text).map(([word]) => word).filter(word => !STOP.has(word)).join(" ")} `
}

// How much a query is an alias: the same words, or one within the other.
function likeness(alias, asked) {
  const length = alias.trim().split(" ").length
  if (alias.trim() === "" || asked.trim() === "") return 0
  if (alias === asked) return 8
  if (asked.includes(alias)) return length > 1 ? 2 + length : 0.5
  return alias.includes(asked) ? 1.5 : 0
}

// True if one letter is missing, added or wrong, or two neighbours are swapped.
function isNear(word, term) {
  if (Math.abs(word.length - term.length) > 1 || word[0] !== term[0]) return false
  let start = 0
  while (start < word.length && word[start] === term[start]) start++
  const [one, other] = [word.slice(start), term.slice(start)]
  return one.slice(1) === other || one === other.slice(1) || one.slice(1) === other.slice(1) ||
    (one[0] === other[1] && one[1] === other[0] && one.slice(2) === other.slice(2))
}
