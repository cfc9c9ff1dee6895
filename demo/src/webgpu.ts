// How to get WebGPU, by families of browsers.

/** One step, and where it applies; everywhere by default. */
interface Step {
  text: string
  on?: System[]
}

type System = 'windows' | 'mac' | 'linux' | 'android' | 'ios' | 'other'

export interface Advice {
  browsers: string[]
  steps: Step[]
}

/** The browser's name and version, as far as it says. */
export function browser(agent: string = navigator.userAgent): string {
  const known: [RegExp, string][] = [
    [/Edg(?:A|iOS)?\/([\d]+)/, 'Edge'],
    [/OPR\/([\d]+)/, 'Opera'],
    [/SamsungBrowser\/([\d]+)/, 'Samsung Internet'],
    [/(?:Firefox|FxiOS)\/([\d]+)/, 'Firefox'],
    [/(?:HeadlessChrome|Chrome|CriOS)\/([\d]+)/, 'Chrome'],
    [/Version\/([\d.]+).*Safari/, 'Safari'],
  ]
  for (const [pattern, name] of known) {
    const found = pattern.exec(agent)
    if (found) return `${name} ${found[1]}`
  }
  return 'this browser'
}

const families: Advice[] = [
  {
    browsers: ['Chrome', 'Edge', 'Opera', 'Samsung Internet'],
    steps: [
      { text: 'Update to version 113 or later, and switch on graphics acceleration in the settings, under System.', on: ['windows', 'mac', 'other'] },
      { text: 'On Android it takes version 121 or later, and Android 12.', on: ['android'] },
      { text: 'On Linux, open chrome://flags/#enable-unsafe-webgpu, switch it on with Vulkan, and restart.', on: ['linux'] },
      { text: 'chrome://gpu says in its WebGPU line what is missing.' },
    ],
  },
  {
    browsers: ['Safari'],
    steps: [
      { text: 'Update to macOS 26, iOS 26 or iPadOS 26, where Safari has WebGPU on.' },
      { text: 'On Safari 18, switch it on under Settings, Apps, Safari, Advanced, Feature Flags.', on: ['ios'] },
    ],
  },
  {
    browsers: ['Firefox'],
    steps: [
      { text: 'Update to version 141 or later on Windows, 145 or later on a Mac with Apple silicon.', on: ['windows', 'mac'] },
      { text: 'Elsewhere open about:config in Firefox Nightly and set dom.webgpu.enabled to true.', on: ['linux', 'android', 'other'] },
    ],
  },
]

/** Steps for all families of browsers, the one that asks first. */
export function advice(): Advice[] {
  const mine = family()
  return mine ? [mine, ...families.filter((f) => f !== mine)] : families
}

/** What to do in the browser that asks, in a sentence or two. */
export function howTo(): string {
  if (!isSecureContext) return secure
  const where = system()
  const steps = (family() ?? families[0]!).steps.filter((s) => !s.on || s.on.includes(where))
  return steps.map((s) => s.text).join(' ')
}

/** What holds in every browser. */
export const secure = 'WebGPU needs a secure address: open this page by https:// or from localhost.'
export const remote = 'A remote desktop or a virtual machine often has no GPU to offer; the CPU then does the work, slower.'

function family(): Advice | undefined {
  if (system() === 'ios') return families.find((f) => f.browsers.includes('Safari')) // all browsers there are Safari inside
  const name = browser()
  return families.find((f) => f.browsers.some((b) => name.startsWith(b)))
}

function system(agent: string = navigator.userAgent): System {
  if (/iPhone|iPad/.test(agent)) return 'ios'
  if (/Android/.test(agent)) return 'android'
  if (/Windows/.test(agent)) return 'windows'
  if (/Macintosh/.test(agent)) return navigator.maxTouchPoints > 1 ? 'ios' : 'mac' // an iPad says it is a Mac
  return /Linux/.test(agent) ? 'linux' : 'other'
}
