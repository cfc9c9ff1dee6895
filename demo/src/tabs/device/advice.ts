// What to do where a browser has no WebGPU, for the browser that asks.

export interface Advice {
  browser: string
  /** One step a line. */
  steps: string[]
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

/** Steps for every family of browsers. */
export const advice: Advice[] = [
  {
    browser: 'Chrome, Edge, Opera',
    steps: [
      'Update to version 113 or later; on Android to 121 or later.',
      'Under Settings, System, switch on graphics acceleration, then restart the browser.',
      'On Linux, WebGPU is on by default with recent versions and drivers only; else open chrome://flags, enable “Unsafe WebGPU Support” and “Vulkan”, and restart.',
      'chrome://gpu says in its WebGPU line what is missing.',
    ],
  },
  {
    browser: 'Safari',
    steps: ['Update to macOS 26, iOS 26 or iPadOS 26, where Safari has WebGPU on.', 'On Safari 18, switch it on under Settings, Apps, Safari, Advanced, Feature Flags.'],
  },
  {
    browser: 'Firefox',
    steps: ['On Windows update to version 141 or later, on a Mac with Apple silicon to 145 or later.', 'Elsewhere Firefox Nightly has it; set dom.webgpu.enabled in about:config.'],
  },
  {
    browser: 'Anywhere',
    steps: ['WebGPU needs a secure address: https, or localhost.', 'A remote desktop or a virtual machine often has no GPU to offer; the CPU then does the work, slower.'],
  },
]

/** The families of browsers, the one that asks first. */
export function adviceFor(name: string): Advice[] {
  const first = advice.findIndex((a) => a.browser.split(', ').some((b) => name.startsWith(b)))
  return first <= 0 ? advice : [advice[first]!, ...advice.filter((_, i) => i !== first)]
}
