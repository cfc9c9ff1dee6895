// The recipe as text, with what is wrong with it at its line.
import { effect } from '@preact/signals'
import type { JSX } from 'preact'
import { useEffect, useId, useRef, useState } from 'preact/hooks'
import { Button } from '../../components'
import type { Checked } from '../../protocol'
import { checked, catalog, library, useLibrary, useText } from '../../state'
import { ids } from '../../testids'

// A text with mistakes, to come back to from another panel.
let mistaken = ''
effect(() => {
  if (checked.value.problems.length === 0) mistaken = ''
})

export function RecipeText(): JSX.Element {
  const canonical = catalog.value?.recipes.find((r) => r.name === library.value)?.yaml ?? checked.value.yaml ?? ''
  const [text, setText] = useState(mistaken || canonical)
  const [problems, setProblems] = useState<Checked['problems']>(mistaken ? checked.value.problems : [])
  const [typing, setTyping] = useState(mistaken !== '')
  const timer = useRef(0)
  const area = useRef<HTMLTextAreaElement>(null)
  const gutter = useRef<HTMLDivElement>(null)
  const id = useId()
  useEffect(() => {
    if (typing) return
    setText(canonical)
    setProblems([])
  }, [canonical, typing])
  const typed = useRef<string | null>(null) // not read yet
  const read = () => {
    clearTimeout(timer.current)
    const t = typed.current
    typed.current = null
    if (t === null) return
    void useText(t).then((c) => {
      setProblems(c.problems)
      if (c.problems.length > 0) mistaken = t
      if (c.problems.length === 0 && document.activeElement !== area.current) setTyping(false)
    })
  }
  useEffect(() => read, [])

  const type = (t: string) => {
    setText(t)
    setTyping(true)
    typed.current = t
    clearTimeout(timer.current)
    timer.current = window.setTimeout(read, 350)
  }
  const goTo = (line: number) => {
    const el = area.current
    if (!el || line < 1) return
    const lines = text.split('\n')
    const from = lines.slice(0, line - 1).join('\n').length + (line > 1 ? 1 : 0)
    el.focus()
    el.setSelectionRange(from, from + (lines[line - 1]?.length ?? 0))
    el.scrollTop = (line - 4) * 20
  }
  const lines = text.split('\n').length
  const wrong = new Set(problems.map((p) => p.line))
  return (
    <div class="stack tight">
      <label for={id} class="help">
        The whole recipe, in YAML or JSON. What it leaves out takes a default.
      </label>
      <div class="code">
        <div class="code-lines" ref={gutter} aria-hidden="true">
          {Array.from({ length: lines }, (_, i) => (
            <span key={i} class={wrong.has(i + 1) ? 'wrong' : undefined}>
              {i + 1}
            </span>
          ))}
        </div>
        <textarea
          id={id}
          ref={area}
          value={text}
          rows={Math.min(26, Math.max(12, lines))}
          spellcheck={false}
          autocapitalize="off"
          autocomplete="off"
          wrap="off"
          aria-invalid={problems.length > 0}
          aria-describedby={`${id}-problems`}
          onInput={(e) => type(e.currentTarget.value)}
          onBlur={() => {
            if (typed.current !== null) read()
            else if (problems.length === 0) setTyping(false) // what is shown is the recipe's own text again
          }}
          onScroll={(e) => gutter.current && (gutter.current.scrollTop = e.currentTarget.scrollTop)}
          data-testid={ids.recipeText}
        />
      </div>
      <div id={`${id}-problems`} aria-live="polite" data-testid={ids.recipeProblems}>
        {problems.length > 0 && (
          <ul class="problems">
            {problems.map((p, i) => (
              <li key={i}>
                {p.line > 0 ? (
                  <button type="button" onClick={() => goTo(p.line)}>
                    Line {p.line}
                  </button>
                ) : null}
                <span>{p.message}</span>
              </li>
            ))}
          </ul>
        )}
        {problems.length > 0 && (
          <Button
            size="small"
            onClick={() => {
              setTyping(false)
              void (library.value ? useLibrary(library.value) : useText(canonical))
            }}
          >
            Back to the last valid recipe
          </Button>
        )}
      </div>
    </div>
  )
}
