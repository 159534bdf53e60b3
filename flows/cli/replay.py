"""What the command line shows of a replay."""

from datetime import UTC, datetime

from delivery.release.replay import Moment, Replay

NAMES = {"live": "live", "rolled_back": "rolled back", "unfinished": "neither live nor rolled back when the log ended"}


def render(replay: Replay) -> str:
    """For people: one paragraph a stage, with the evidence of each of its checks."""
    lines = [f"{replay.candidate} against {replay.stable}, {replay.rows} rows"]
    if replay.left_out:
        lines.append(f"  left out: {', '.join(replay.left_out)}, since the log holds nothing to judge it by")
    if replay.left_out_checks:
        lines.append(f"  left out: {', '.join(replay.left_out_checks)}, since a log holds no judgements")
    ends = [moment for moment in replay.moments if moment.stage in {stage.stage for stage in replay.stages}]
    for stage in replay.stages:
        end = [moment for moment in ends if moment.stage == stage.stage][-1]
        lines.append(_line(stage.stage, end))
        lines += [f"    {sentence}" for sentence in stage.evidence]
    if replay.outcome == "unfinished":
        last = replay.moments[-1]
        lines.append(_line(last.stage, last))
        lines += [f"    {result.sentence}" for result in last.results]
    when = datetime.fromtimestamp(replay.at, UTC).strftime("%Y-%m-%d %H:%M:%S")
    lines.append(f"{NAMES[replay.outcome]} at {when} UTC, {replay.after_s:.0f} s and {replay.rows_used} rows in")
    lines.append(f"  {replay.reason}")
    if replay.first_bad_at is not None:
        lines.append(f"  {replay.at - replay.first_bad_at:.1f} s after the first bad request had started")
    return "\n".join(lines)


def _line(stage: str, moment: Moment) -> str:
    counted = f"{moment.candidate_requests} candidate and {moment.stable_requests} stable requests"
    return f"  {stage:10} {moment.verdict:12} {moment.after_s:8.0f} s  {counted}"
