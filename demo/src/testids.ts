// What a test clicks or reads, by data-testid. The page uses these names and no others.
export const ids = {
  // The frame.
  tab: 'tab', // with -<name>
  deviceChip: 'device-chip',
  theme: 'theme',
  coreState: 'core-state',
  lost: 'device-lost',
  reopen: 'device-reopen',
  instead: 'device-instead',
  jobBar: 'job-bar',
  pause: 'pause',
  resume: 'resume',
  cancel: 'cancel',

  // Steer
  libraryRecipe: 'library', // with -<name>
  stageTitle: 'stage-title',
  stagePictures: 'stage-pictures',
  start: 'start',
  place: 'place', // with -<device or edge>
  placeSays: 'place-says', // what the edge will cost, or why it cannot
  placeFit: 'place-fit', // makes the recipe small enough for the edge
  judged: 'judged', // the headline: "12 of 16 wear dark glasses"
  split: 'split', // the slider from before to after
  enlarged: 'enlarged',
  plan: 'plan',
  refusal: 'refusal',
  halve: 'halve',
  unfinished: 'unfinished',
  continue: 'continue',
  discard: 'discard',
  trouble: 'trouble',
  again: 'again', // what failed on the edge
  noWebgpu: 'no-webgpu',
  panel: 'panel', // with -goal, -run, -share, -recipe
  goal: 'goal', // with -<index>
  addGoal: 'add-goal',
  goalKind: 'goal-kind', // with -<term>
  goalPrompt: 'goal-prompt',
  removeGoal: 'remove-goal', // with -<index>
  attribute: 'attribute',
  value: 'value',
  region: 'region',
  regionColour: 'region-colour',
  sketch: 'sketch',
  toolPencil: 'tool-pencil',
  toolEraser: 'tool-eraser',
  toolFill: 'tool-fill',
  sketchUndo: 'sketch-undo',
  sketchClear: 'sketch-clear',
  startPicture: 'start-picture',
  condition: 'condition',
  prompt: 'prompt',
  negativePrompt: 'negative-prompt',
  pictures: 'pictures',
  steps: 'steps',
  updates: 'updates',
  seed: 'seed',
  dice: 'dice',
  method: 'method',
  more: 'more',
  freeze: 'freeze',
  learningRate: 'learning-rate',
  sampler: 'sampler',
  guidance: 'guidance',
  model: 'model',
  lora: 'lora',
  lossChart: 'loss-chart',
  counters: 'counters',
  copyLink: 'copy-link',
  savePng: 'save-png',
  saveGif: 'save-gif',
  saveYaml: 'save-yaml',
  command: 'command',
  recipeText: 'recipe-text',
  recipeProblems: 'recipe-problems',

  // See the shortcut
  shortcutStrip: 'shortcut-strip',
  shortcutSteps: 'shortcut-steps',
  shortcutWay: 'shortcut-way', // with -<method>
  shortcutMemory: 'shortcut-memory',
  shortcutMethod: 'shortcut-method', // with -<method>
  shortcutCompare: 'shortcut-compare',
  shortcutResults: 'shortcut-results',
  shortcutBytes: 'shortcut-bytes',
  shortcutCurves: 'shortcut-curves',

  // Tune
  tuneRecipe: 'tune-recipe',
  tuneStart: 'tune-start',
  tuneResume: 'tune-resume',
  tuneDiscard: 'tune-discard',
  tuneLoss: 'tune-loss',
  tuneLooks: 'tune-looks',
  tuneJudge: 'tune-judge',
  tuneDownload: 'tune-download',
  tuneUse: 'tune-use',
  tuneScale: 'tune-scale',
  tuneSamples: 'tune-samples',
  tuneLoad: 'tune-load',
  tuneAdapters: 'tune-adapters',
  tuneRemove: 'tune-remove', // with -<name>
  tuneCommand: 'tune-command',

  // Audit
  auditStart: 'audit-start',
  auditBatches: 'audit-batches',
  auditChart: 'audit-chart',
  auditTable: 'audit-table',
  auditAdvice: 'audit-advice',

  // Models
  modelList: 'model-list',
  modelFolder: 'model-folder',
  modelFiles: 'model-files',
  modelInspected: 'model-inspected',
  modelKeep: 'model-keep',
  modelRemove: 'model-remove', // with -<name>
  modelUse: 'model-use', // with -<name>

  // Device
  deviceFacts: 'device-facts',
  deviceLimits: 'device-limits',
  deviceMeasure: 'device-measure',
  deviceMeasured: 'device-measured',
  deviceKernels: 'device-kernels',
  deviceRows: 'device-rows',
  deviceSummary: 'device-summary',
  deviceKind: 'device-kind', // with -<auto, webgpu or cpu>
  deviceReport: 'device-report',
} as const
