// What a test sees of the page: things by test id, by the name a person or a
// screen reader would call them, or by their text. One expression that gives an
// object of functions; it is evaluated anew for every question, so nothing of it
// stays in the page.
(() => {
  const parts = 'button, a[href], input, select, textarea, summary, label, canvas, img, svg, [role], [tabindex]:not(main), [aria-label]'
  const tidy = (text) => (text ?? '').replace(/\s+/g, ' ').trim()
  const lower = (text) => text.toLowerCase()

  const shown = (e) => {
    const box = e.getBoundingClientRect()
    return box.width > 0 && box.height > 0 && e.checkVisibility({ visibilityProperty: true, opacityProperty: true })
  }

  // Text without what is hidden from a screen reader.
  const spoken = (e) => {
    const copy = e.cloneNode(true)
    for (const hidden of copy.querySelectorAll('[aria-hidden="true"], script, style')) hidden.remove()
    return tidy(copy.textContent)
  }

  const names = (e) => {
    const by = e.getAttribute('aria-labelledby')
    if (by) return [tidy(by.split(/\s+/).map((id) => document.getElementById(id)?.textContent).join(' '))]
    if (e.hasAttribute('aria-label')) return [tidy(e.getAttribute('aria-label'))]
    if (e.labels?.length) return [...e.labels].map(spoken)
    const field = e.matches('input, select, textarea')
    const text = field ? (e.matches('[type=button], [type=submit]') ? e.value : (e.placeholder ?? '')) : spoken(e)
    return [tidy(text || e.getAttribute('alt') || e.getAttribute('title'))]
  }

  // Of a control and what stands around it by the same name, the control.
  const innermost = (all) => all.filter((e) => !all.some((other) => other !== e && (e.contains(other) || (e.matches('label') && e.control === other))))

  // candidates are all that a name may mean, the best kind of match first.
  const candidates = (name, root) => {
    const ids = [...root.querySelectorAll('[data-testid]')].filter((e) => e.dataset.testid === name)
    if (ids.length) return ids
    const named = [...root.querySelectorAll(parts)].filter(shown)
    const exact = named.filter((e) => names(e).includes(tidy(name)))
    if (exact.length) return innermost(exact)
    const within = named.filter((e) => names(e).some((n) => lower(n).includes(lower(tidy(name)))))
    if (within.length) return innermost(within)
    const texts = [...root.querySelectorAll('*')].filter((e) => !e.matches('script, style, noscript') && lower(tidy(e.textContent)).includes(lower(tidy(name))))
    return innermost(texts)
  }

  const root = (scope) => {
    if (!scope) return document.body
    const found = candidates(scope, document.body).filter(shown)
    if (found.length !== 1) throw new Error(`${found.length} things are called ${scope}, want one`)
    return found[0]
  }

  const all = (name, scope) => candidates(name, root(scope))
  const visible = (name, scope) => all(name, scope).filter(shown)

  const one = (name, scope) => {
    const found = visible(name, scope)
    if (found.length === 1) return found[0]
    const list = found.map((e) => e.outerHTML.slice(0, 120)).join('\n')
    throw new Error(found.length === 0 ? `nothing that can be seen is called ${name}` : `${found.length} things are called ${name}; name one by its test id or look within something:\n${list}`)
  }

  // The box of a thing brought into view, once it has stopped moving.
  const box = async (name, scope) => {
    const e = one(name, scope)
    e.scrollIntoView({ block: 'center', inline: 'center', behavior: 'instant' })
    let before
    for (let i = 0; i < 30; i++) {
      const b = e.getBoundingClientRect()
      const now = [b.x, b.y, b.width, b.height].join()
      if (now === before) return { x: b.x, y: b.y, width: b.width, height: b.height }
      before = now
      await new Promise(requestAnimationFrame)
    }
    throw new Error(`${name} does not stop moving`)
  }

  // Where to press a thing: its middle, unless something covers that.
  const spot = async (name, scope) => {
    const e = one(name, scope)
    if (e.disabled || e.getAttribute('aria-disabled') === 'true') throw new Error(`${name} is disabled`)
    const b = await box(name, scope)
    const x = b.x + b.width / 2
    const y = b.y + b.height / 2
    const top = document.elementFromPoint(x, y)
    const same = top && (e.contains(top) || top.contains(e) || (top.closest('label')?.control ?? null) === e)
    if (!same) throw new Error(`${name} is covered by ${top ? top.outerHTML.slice(0, 120) : 'nothing of the page'}`)
    return { x, y }
  }

  // Gives a field a value as if a person had: frameworks listen to the events.
  const set = (name, value, scope) => {
    const found = all(name, scope).filter((e) => e.matches('input, select, textarea'))
    if (found.length !== 1) throw new Error(`${found.length} fields are called ${name}, want one`)
    const field = found[0]
    const kind = { INPUT: HTMLInputElement, SELECT: HTMLSelectElement, TEXTAREA: HTMLTextAreaElement }[field.tagName]
    if (field.matches('select')) {
      const option = [...field.options].find((o) => o.value === value || tidy(o.textContent) === value)
      if (!option) throw new Error(`${name} has no choice ${value}; it has ${[...field.options].map((o) => tidy(o.textContent)).join(', ')}`)
      value = option.value
    }
    field.focus()
    Object.getOwnPropertyDescriptor(kind.prototype, 'value').set.call(field, value)
    if (field.value !== value) throw new Error(`${name} does not take ${value}; it is now ${field.value}`)
    field.dispatchEvent(new Event('input', { bubbles: true }))
    field.dispatchEvent(new Event('change', { bubbles: true }))
  }

  return { all, visible, one, box, spot, set, tidy }
})()
