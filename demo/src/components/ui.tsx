// Controls. Each is a labelled native element, so keyboards and screen readers
// know it without help.
import type { ComponentChildren, JSX } from 'preact'
import { useEffect, useId, useRef, useState } from 'preact/hooks'

type Rest = { 'data-testid'?: string }

interface ButtonProps extends Rest {
  children: ComponentChildren
  onClick?: (e: MouseEvent) => void
  kind?: 'primary' | 'plain' | 'quiet' | 'danger'
  size?: 'small' | 'normal' | 'large'
  disabled?: boolean
  busy?: boolean
  title?: string
  label?: string // for buttons that show only a sign
  pressed?: boolean
}

export function Button({ children, kind = 'plain', size = 'normal', busy, label, pressed, title, ...rest }: ButtonProps): JSX.Element {
  return (
    <button type="button" class={`button ${kind} ${size}${busy ? ' busy' : ''}`} aria-label={label} aria-pressed={pressed} aria-busy={busy} title={title ?? label} {...rest}>
      {children}
    </button>
  )
}

interface FieldProps {
  label: string
  help?: ComponentChildren
  error?: string
  /** Gets the id that ties the label to the control, and that of the help. */
  children: (ids: { id: string; 'aria-describedby'?: string; 'aria-invalid'?: boolean }) => ComponentChildren
  inline?: boolean
}

/** A label, a control, and one line of help or what is wrong with it. */
export function Field({ label, help, error, children, inline }: FieldProps): JSX.Element {
  const id = useId()
  const said = error || help
  return (
    <div class={`field${inline ? ' inline' : ''}`}>
      <label for={id}>{label}</label>
      {children({ id, 'aria-describedby': said ? `${id}-help` : undefined, 'aria-invalid': error ? true : undefined })}
      {said && (
        <p class={error ? 'help error' : 'help'} id={`${id}-help`}>
          {said}
        </p>
      )}
    </div>
  )
}

interface SelectProps<T extends string> extends Rest {
  label: string
  value: T
  options: readonly (T | { value: T; label: string })[]
  onChange: (value: T) => void
  help?: ComponentChildren
  error?: string
  disabled?: boolean
  inline?: boolean
}

export function Select<T extends string>({ label, value, options, onChange, help, error, inline, ...rest }: SelectProps<T>): JSX.Element {
  return (
    <Field label={label} help={help} error={error} inline={inline}>
      {(ids) => (
        <span class="select">
          <select {...ids} {...rest} value={value} onChange={(e) => onChange(e.currentTarget.value as T)}>
            {options.map((o) => {
              const option = typeof o === 'string' ? { value: o, label: o } : o
              return (
                <option key={option.value} value={option.value} selected={option.value === value}>
                  {option.label}
                </option>
              )
            })}
          </select>
        </span>
      )}
    </Field>
  )
}

interface NumberProps extends Rest {
  label: string
  value: number | undefined
  onChange: (value: number) => void
  /** With it, an empty field is allowed and means this. */
  onEmpty?: () => void
  placeholder?: string
  min?: number
  max?: number
  step?: number | 'any'
  help?: ComponentChildren
  error?: string
  disabled?: boolean
  after?: ComponentChildren // beside the control: a unit, or a dice
  inline?: boolean
}

/** A number that is typed. What is half typed or out of range changes nothing. */
export function NumberField({ label, value, onChange, onEmpty, min, max, step = 1, help, error, after, inline, ...rest }: NumberProps): JSX.Element {
  const [text, setText] = useState<string | null>(null) // while it is typed in
  const wrong = text !== null && !(onEmpty && text === '') && !inRange(text, min, max)
  return (
    <Field label={label} help={help} error={wrong ? `A number ${range(min, max)}.` : error} inline={inline}>
      {(ids) => (
        <span class="beside">
          <input
            {...ids}
            {...rest}
            type="number"
            inputMode="decimal"
            min={min}
            max={max}
            step={step}
            value={text ?? (value === undefined ? '' : String(value))}
            onInput={(e) => {
              const t = e.currentTarget.value
              setText(t)
              if (inRange(t, min, max)) onChange(Number(t))
              else if (t === '' && !e.currentTarget.validity.badInput) onEmpty?.()
            }}
            onBlur={() => setText(null)}
          />
          {after}
        </span>
      )}
    </Field>
  )
}

function inRange(text: string, min = -Infinity, max = Infinity): boolean {
  const n = Number(text)
  return text.trim() !== '' && Number.isFinite(n) && n >= min && n <= max
}

function range(min?: number, max?: number): string {
  if (min !== undefined && max !== undefined) return `from ${min} to ${max}`
  if (min !== undefined) return `of at least ${min}`
  return max !== undefined ? `of at most ${max}` : ''
}

interface TextProps extends Rest {
  label: string
  value: string
  onChange: (value: string) => void
  help?: ComponentChildren
  error?: string
  disabled?: boolean
  placeholder?: string
  inline?: boolean
}

export function TextField({ label, value, onChange, help, error, inline, ...rest }: TextProps): JSX.Element {
  return (
    <Field label={label} help={help} error={error} inline={inline}>
      {(ids) => <input {...ids} {...rest} type="text" value={value} onInput={(e) => onChange(e.currentTarget.value)} />}
    </Field>
  )
}

interface SliderProps extends Rest {
  label: string
  value: number
  onChange: (value: number) => void
  min: number
  max: number
  step?: number
  /** What the value says, beside the slider and to a screen reader. */
  show?: (value: number) => string
  help?: ComponentChildren
  disabled?: boolean
  hideLabel?: boolean
}

export function Slider({ label, value, onChange, min, max, step = 1, show = String, help, hideLabel, ...rest }: SliderProps): JSX.Element {
  const id = useId()
  return (
    <div class="field slider">
      <label for={id} class={hideLabel ? 'hidden' : undefined}>
        {label}
      </label>
      <span class="beside">
        <input
          id={id}
          {...rest}
          type="range"
          min={min}
          max={max}
          step={step}
          value={value}
          style={{ '--at': `${max > min ? (100 * (value - min)) / (max - min) : 0}%` }}
          aria-valuetext={show(value)}
          onInput={(e) => onChange(Number(e.currentTarget.value))}
        />
        <output for={id}>{show(value)}</output>
      </span>
      {help && <p class="help">{help}</p>}
    </div>
  )
}

interface CheckProps extends Rest {
  label: ComponentChildren
  checked: boolean
  onChange: (checked: boolean) => void
  help?: ComponentChildren
  disabled?: boolean
}

export function Check({ label, checked, onChange, help, ...rest }: CheckProps): JSX.Element {
  return (
    <div class="field">
      <label class="check">
        <input {...rest} type="checkbox" checked={checked} onChange={(e) => onChange(e.currentTarget.checked)} />
        <span>{label}</span>
      </label>
      {help && <p class="help">{help}</p>}
    </div>
  )
}

interface SegmentedProps<T extends string> {
  label: string // of the group, for screen readers
  value: T
  options: readonly { value: T; label: ComponentChildren; disabled?: boolean; testid?: string }[]
  onChange: (value: T) => void
  describedBy?: string // the id of what is said of the choice
}

/** A few choices beside each other, as radio buttons. */
export function Segmented<T extends string>({ label, value, options, onChange, describedBy }: SegmentedProps<T>): JSX.Element {
  const name = useId()
  return (
    <div class="segmented" role="radiogroup" aria-label={label} aria-describedby={describedBy}>
      {options.map((o) => (
        <label key={o.value} class={o.value === value ? 'on' : undefined} data-testid={o.testid}>
          <input type="radio" name={name} value={o.value} checked={o.value === value} disabled={o.disabled} onChange={() => onChange(o.value)} />
          <span>{o.label}</span>
        </label>
      ))}
    </div>
  )
}

interface MeterProps {
  label: string
  value: number // 0 to 1
  before?: number // a second, fainter bar: what it was
  children?: ComponentChildren
}

/** A bar that says a share. */
export function Meter({ label, value, before }: MeterProps): JSX.Element {
  const percent = (v: number) => `${Math.max(0, Math.min(1, v)) * 100}%`
  return (
    <div class="meter" role="meter" aria-label={label} aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.round(value * 100)}>
      <i class="after" style={{ width: percent(value) }} />
      {before !== undefined && <i class="before" style={{ width: percent(before) }} />}
    </div>
  )
}

interface NoticeProps extends Rest {
  kind?: 'info' | 'warning' | 'error' | 'good'
  title?: ComponentChildren
  children?: ComponentChildren
  actions?: ComponentChildren // buttons
  onClose?: () => void
}

/** A message with what to do next. Warnings and errors are announced. */
export function Notice({ kind = 'info', title, children, actions, onClose, ...rest }: NoticeProps): JSX.Element {
  return (
    <div class={`notice ${kind}${onClose ? ' closes' : ''}`} role={kind === 'error' || kind === 'warning' ? 'alert' : 'status'} {...rest}>
      <div class="notice-text">
        {title && <strong>{title}</strong>}
        {children && <div>{children}</div>}
      </div>
      {actions && <div class="row tight">{actions}</div>}
      {onClose && (
        <span class="notice-close">
          <Button kind="quiet" size="small" label="Dismiss" onClick={onClose}>
            ✕
          </Button>
        </span>
      )}
    </div>
  )
}

interface DisclosureProps extends Rest {
  title: ComponentChildren
  children: ComponentChildren
  open?: boolean
}

export function Disclosure({ title, children, open, ...rest }: DisclosureProps): JSX.Element {
  return (
    <details class="disclosure" open={open} {...rest}>
      <summary>{title}</summary>
      <div class="disclosed">{children}</div>
    </details>
  )
}

/** Copies a text and says so. */
export function CopyButton({ text, children, ...rest }: { text: string | (() => Promise<string>); children: ComponentChildren } & Rest): JSX.Element {
  const [state, setState] = useState<'' | 'copied' | 'failed'>('')
  const timer = useRef(0)
  useEffect(() => () => clearTimeout(timer.current), [])
  const copy = async () => {
    let next: typeof state = 'copied'
    try {
      await navigator.clipboard.writeText(typeof text === 'string' ? text : await text())
    } catch {
      next = 'failed'
    }
    setState(next)
    clearTimeout(timer.current)
    timer.current = window.setTimeout(() => setState(''), 2000)
  }
  return (
    <Button onClick={() => void copy()} {...rest}>
      <span aria-live="polite">{state === 'copied' ? 'Copied' : state === 'failed' ? 'Copying was not allowed' : children}</span>
    </Button>
  )
}

/** Offers bytes as a file to save. */
export function save(name: string, data: Blob): void {
  const a = document.createElement('a')
  a.href = URL.createObjectURL(data)
  a.download = name
  a.click()
  setTimeout(() => URL.revokeObjectURL(a.href), 60_000)
}
