// Shared components.
//
//   Controls (ui.tsx): Button, Field, Select, NumberField, TextField, Slider, Check,
//     Segmented, Meter, Notice, Disclosure, CopyButton; save(name, blob) offers a file.
//   Pictures (pictures.tsx): PictureGrid, a batch with marks, captions and a slider from
//     before to after; Picture, one of a batch; pictureOf(batch, i) as ImageData.
//   LineChart (chart.tsx): uPlot in the page's colours, with a hidden table.
//   JobBar (job.tsx): the running job of a tab, with pause and cancel.
//
// Classes for layout (styles/components.css): .card .pad .stack .row .tight .split .muted
// .small .numbers .chip .hidden .scroll; h2 for a tab's title, p.lead under it, h3 in cards.
// How numbers are written is in ../format.ts; jobs and the recipe are in ../state.ts.
export * from './ui'
export * from './pictures'
export * from './chart'
export * from './job'
