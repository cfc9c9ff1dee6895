// The bar of the running job: how far it is, how long it will take, pause and cancel.
import { useEffect, useState } from 'preact/hooks'
import type { JSX } from 'preact'
import { cancelJob, pauseJob, resumeJob, running, type Running, type TabName } from '../state'
import { duration } from '../format'
import { ids } from '../testids'
import { Button } from './ui'

export interface JobBarProps {
  /** Shown only while a job of this tab runs. */
  tab: TabName
  /** What is counted: "update", "look". */
  unit?: string
  pausable?: boolean
  /** More of how far it is. */
  note?: string
}

export function JobBar({ tab, unit = 'update', pausable = true, note }: JobBarProps): JSX.Element | null {
  const job = running.value
  if (!job || job.tab !== tab || job.background) return null
  return (
    <div class="jobbar" data-testid={ids.jobBar}>
      <div class="jobbar-text">
        <strong>{job.cancelling ? 'Ending…' : job.paused ? 'Paused' : job.label}</strong>
        <span>
          {job.of > 0 ? `${unit} ${job.done} of ${job.of}` : 'starting'}
          {note && `, ${note}`}
          <Left job={job} />
        </span>
      </div>
      <progress max={Math.max(1, job.of)} value={job.done} aria-label={job.label} />
      <div class="row tight">
        {pausable && job.pausable && (
          <Button size="small" disabled={job.cancelling} onClick={() => void (job.paused ? resumeJob() : pauseJob())} data-testid={job.paused ? ids.resume : ids.pause}>
            {job.paused ? 'Resume' : 'Pause'}
          </Button>
        )}
        <Button size="small" disabled={job.cancelling} onClick={() => void cancelJob()} data-testid={ids.cancel}>
          Cancel
        </Button>
      </div>
    </div>
  )
}

/** Time left, by the pace of what was made here. */
function Left({ job }: { job: Running }): JSX.Element | null {
  const [, tick] = useState(0)
  useEffect(() => {
    const timer = setInterval(() => tick((n) => n + 1), 1000)
    return () => clearInterval(timer)
  }, [])
  const done = job.done - (job.from?.done ?? 0)
  const took = job.seconds - (job.from?.seconds ?? 0)
  if (job.paused || done < 1 || took <= 0) return null
  return <> · about {duration(((job.of - job.done) * took) / done)} left</>
}
