// What the page and its worker say to each other. The worker runs the Go core
// (wasm/browser); names are those of its JSON. One message is one request, one
// reply, or one event of a request that is still running; pictures and files
// travel as transferred buffers.

/** A recipe as JSON, complete with defaults: docs/formats.md. */
export interface Recipe {
  version: number
  name: string
  description?: string
  model: string
  decoder?: string
  lora?: { path: string; scale: number }
  guide?: string
  judge?: string
  clip?: string
  aesthetic?: string
  seed: number
  num_images: number
  height?: number
  width?: number
  sampler: { name: string; num_inference_steps: number; timestep_spacing: string; eta: number; use_karras_sigmas: boolean }
  guidance_scale: number
  condition?: Record<string, string>
  prompt?: string
  negative_prompt?: string
  start?: unknown
  variables: Record<string, unknown>
  objective: Term[]
  method: { name: string; freeze?: string; active?: string; bridge?: number; refresh?: unknown }
  optimizer: { name: string; lr: number; betas: [number, number]; weight_decay?: number; max_grad_norm?: number }
  updates: number
  guards: { latent_norm: string; whiteness: string; drift_limit: number; early_stop: boolean | 'judge' }
  tune?: { batch_size: number; accumulate: number; keep: number; ema_decay: number; eval_every: number; eval_images: number; checkpoint_every: number }
}

/** One part of an objective; `term` decides which other keys there are. */
export interface Term {
  term: 'attribute' | 'region_color' | 'pixels' | 'inpaint' | 'symmetry' | 'total_variation' | 'clip_similarity' | 'clip_style' | 'aesthetic'
  weight?: number
  stop_below?: number
  attribute?: string
  value?: string
  margin?: number
  copies?: number
  noise?: number
  region?: [number, number, number, number]
  color?: string
  rows?: string[]
  palette?: Record<string, string>
  source?: { seed: number; index: number }
  hidden?: 'left' | 'right' | 'top' | 'bottom' | [number, number, number, number]
  axis?: 'horizontal' | 'vertical'
  space?: 'latents'
  prompt?: string
  cutouts?: number
  image?: string
  layer?: number
  target?: number
}

/** A batch of pictures, RGBA row-major, one after the other. */
export interface Pictures {
  count: number
  width: number
  height: number
  rgba: Uint8ClampedArray<ArrayBuffer>
}

export interface Attribute {
  name: string
  values: string[]
}

export interface Device {
  kind: 'webgpu' | 'cpu'
  name: string
  driver: string
  software: boolean
  /** Why it is the CPU although WebGPU was wanted; empty otherwise. */
  why: string
  features: string[]
  /** WebGPU limits by their names in the standard that the core uses; bytes and counts. */
  limits: Record<string, number>
}

/** A network of a folder. */
export interface Component {
  name: string // its subfolder; empty where it is all there is
  class: string
  parameters: number
  bytes: number
}

export interface ModelInfo {
  name: string
  yours: boolean // kept in this browser's origin-private file system
  class: string
  draws: boolean // makes pictures; what does not, a CLIPModel or a decoder, helps one that does
  text: boolean // takes a prompt
  components: Component[]
  parameters: number
  bytes: number // of its files
  channels: number
  width: number
  height: number
  attributes: Attribute[] // what it can be told as a condition; empty for none
  guide: Attribute[] // what attribute goals can ask for; empty for none
  judge: Attribute[] // what the judge can report
}

export interface LibraryRecipe {
  name: string
  description: string
  tunes: boolean // for tune, else for steer
  yaml: string // as it is in the library, with comments
  recipe: Recipe
}

export interface Catalog {
  version: string
  recipes: LibraryRecipe[]
  models: ModelInfo[]
  loras: string[] // names that recipe.lora.path may have
  samplers: string[]
  spacings: string[]
  methods: string[] // patterns: draft-K and stale-r have a number
  freezes: string[]
  actives: string[]
  weights: string[] // files under models/ of the embedded networks
}

/** A recipe that was read, or what is wrong with it. */
export interface Checked {
  recipe?: Recipe
  yaml?: string // canonical: repeats the run on its own
  command?: string // repeats the run natively; may need the YAML saved as a file
  command_needs_file?: string // that file's name; absent where the command stands alone
  problems: { message: string; line: number; path: string }[]
}

export interface Memory {
  param_bytes: number
  activation_bytes: number
  state_bytes: number
  total_bytes: number
}

export interface Planned {
  memory: Memory
  /** The same run by full back-propagation; absent where the variables do not allow it. */
  full?: Memory
  steps: number
  /** Network calls of a rollout, guidance included, and differentiated calls of an update. */
  calls: number
  backward_calls: number
  /** What is computed, at most: until the first score, and for every update. */
  first_multiply_adds: number
  update_multiply_adds: number
  /** Empty where it fits this device, else a sentence that says what does not. */
  refusal: string
}

export interface Counters {
  network_calls: number
  backward_calls: number
}

export interface SteerEvent {
  kind: 'inversion' | 'step' | 'backward' | 'update'
  update: number // updates made so far
  updates: number // wanted
  step: number
  steps: number
  kept: boolean // of a step: its call keeps its buffers for the backward pass
  seconds: number // of the run, what came before a checkpoint included, without pauses and without looking
  counters: Counters
  losses?: number[] // of an update: one per picture
  best?: number[]
  stopped?: boolean[] // left alone: good enough, or drifted
  verdicts?: boolean[] // of an update with pictures: what the judge says of each
  pictures?: Pictures // the sample of an update or, in the first rollout, the state of a step
  warning?: string // the run goes on, but cannot be kept
}

export interface SteerResult {
  before: Pictures
  after: Pictures
  losses: number[][] // [update][picture]
  best_loss: number[]
  best_update: number[]
  row_updates: number[]
  stopped: boolean[]
  drifted: boolean[]
  updates: number
  cancelled: boolean
  judge_label: string // "glasses: dark"; empty where there is none
  judge_before?: boolean[]
  judge_after?: boolean[]
  drift: number // mean over pictures, root mean square, -1..1
  seconds: number
  counters: Counters
  planned_bytes: number // activations
  peak_bytes: number // activations, by the executor's ledger
}

/** A look at held-out pictures during a tuning. */
export interface Look {
  update: number
  loss: number
  drift: number
  success?: number // share the judge approves
  attributes: { name: string; values: string[]; shares: number[]; shift: number }[]
  pictures: Pictures
}

export interface TuneEvent {
  kind: 'step' | 'backward' | 'update' | 'look'
  update: number
  updates: number
  step: number
  steps: number
  seconds: number
  loss?: number
  grad_norm?: number
  look?: Look
  warning?: string // the tuning goes on, but cannot be kept
}

export interface TuneResult {
  before: Look
  after: Look
  updates: number
  stopped: '' | 'drift' | 'judge' | 'objective'
  cancelled: boolean
  trained: number // numbers
  lora: string // the name to use as recipe.lora.path; empty where it could not be kept
  warning?: string // what could not be kept
  file: Uint8Array<ArrayBuffer> // the adapter in kohya-ss' form, one safetensors file
  judge_label: string
  seconds: number
  planned_bytes: number
  peak_bytes: number
  counters: Counters
}

export interface AuditRow {
  variable: string
  method: string
  active: string
  freeze: string
  step: number // state or kept call; -1 for a rule over all calls
  cosine: number
  cosine_min: number
  relative_norm: number
  negative_share: number
  units: number
  left_out: number
}

export interface AuditResult {
  rows: AuditRow[]
  advice: string[]
  steps: number
  pictures: number
  seconds: number
  cancelled: boolean
}

export interface Measured {
  gemm_gflops: number
  call_ms: number // one network call of the embedded model, 16 pictures
  dispatches: number // of that call
  encode_replayed_us: number // CPU time to encode that call by the replay loop
  encode_plain_us: number // ... by one JavaScript call per command
  readback_ms: number
}

export interface KernelCheck {
  name: string
  device: string
  error: number // the worst normalised mean squared error, forward and gradients
  bound: number
  ok: boolean
  message: string // what failed, where it did not even run
}

/** Work that was going on when the tab was closed or the device was lost. */
export interface Checkpoint {
  name: 'steer' | 'tune'
  recipe: Recipe
  update: number
  saved: number // milliseconds since 1970
}

/** What went wrong, with a next step in the sentence. */
export interface Failure {
  kind: 'input' | 'busy' | 'no_adapter' | 'device_lost' | 'out_of_memory' | 'cancelled' | 'fault'
  message: string
}

/** Every request: what it takes, what it answers, what it tells meanwhile. */
export interface Methods {
  /** Opens a device. 'auto' takes WebGPU and, where there is none, the CPU. */
  open: { params: { device: 'auto' | 'webgpu' | 'cpu' }; result: Device }
  catalog: { params: Record<string, never>; result: Catalog }
  /** Reads YAML or JSON; overrides are key paths, as of `sdo steer --set`. */
  check: { params: { text: string; overrides?: Record<string, unknown> }; result: Checked }
  plan: { params: { recipe: Recipe }; result: Planned }
  /** Picture `index` of the training generator, which inpaint goals restore. */
  source: { params: { seed: number; index: number }; result: Pictures }
  sample: { params: { recipe: Recipe }; result: Pictures; event: SteerEvent }
  /** resume continues from the checkpoint named steer. previews: least milliseconds between pictures. checkpoint: keep one. */
  steer: {
    params: { recipe: Recipe; resume?: boolean; previews?: number; checkpoint?: boolean }
    result: SteerResult
    event: SteerEvent
  }
  tune: { params: { recipe: Recipe; resume?: boolean; name?: string; checkpoint?: boolean }; result: TuneResult; event: TuneEvent }
  audit: { params: { recipe: Recipe; batches: number }; result: AuditResult; event: SteerEvent }
  /** Of a job by the id of its request. A paused job waits between two network calls. */
  pause: { params: { job: number }; result: null }
  resume: { params: { job: number }; result: null }
  cancel: { params: { job: number }; result: null }
  checkpoints: { params: Record<string, never>; result: Checkpoint[] }
  discard: { params: { name: 'steer' | 'tune' }; result: null }
  /** Reads the small files of a folder and says what it is and needs, before weights are read. */
  inspect: { params: { name: string; files: { path: string; size: number; text?: string }[]; num_images: number }; result: Inspected }
  /** Keeps a model folder, whose files the worker has in its store. */
  add_model: {
    params: { name: string; files: { path: string; file: File }[] }
    result: ModelInfo
    event: { done: number; of: number } // bytes put into the store
  }
  remove_model: { params: { name: string }; result: null }
  add_lora: { params: { name: string; file: File }; result: { name: string; parameters: number } }
  remove_lora: { params: { name: string }; result: null }
  /** Speed of this device. */
  measure: { params: Record<string, never>; result: Measured }
  /** Runs every row of the op table on this device against float64. */
  kernels: { params: { only?: string }; result: KernelCheck[]; event: { done: number; of: number; row: KernelCheck } }
  /** Loses the device on purpose, for tests. */
  lose_device: { params: Record<string, never>; result: null }
}

export interface Inspected {
  ok: boolean
  message: string // why it is refused, or what it is in words
  components: Component[] | null
  parameters: number
  bytes: number
  draws: boolean
  channels: number
  width: number
  height: number
  num_images: number // that memory is counted for
  sample: Memory
  steer: Memory
}

export type Method = keyof Methods
export type Params<M extends Method> = Methods[M]['params']
export type Result<M extends Method> = Methods[M]['result']
export type EventOf<M extends Method> = Methods[M] extends { event: infer E } ? E : never

export interface Request<M extends Method = Method> {
  id: number
  method: M
  params: Params<M>
}

export type Message =
  | { id: number; result: unknown }
  | { id: number; error: Failure }
  | { id: number; event: unknown }
  | { id: 0; event: { kind: 'device_lost'; message: string } }
