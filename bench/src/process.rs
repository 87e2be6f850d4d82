//! What a process has used.

use std::time::Duration;

use anyhow::Context;
use nix::unistd::Pid;

/// The time that its threads have spent on a processor; of those that have not ended.
pub(crate) fn cpu(process: Pid) -> anyhow::Result<Duration> {
    let mut nanoseconds = 0;
    for task in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        nanoseconds += text.split(' ').next().context("schedstat is empty")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// The time that all its threads have spent on a processor, those that have ended too, to 10 ms.
pub(crate) fn cpu_ever(process: Pid) -> anyhow::Result<Duration> {
    const TICK: Duration = Duration::from_millis(10);
    let text = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name of the program, which may have spaces, ends with the last bracket.
    let (_, fields) = text.rsplit_once(") ").context("stat has no name")?;
    // `utime` and `stime`, the 14th and the 15th field.
    let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<u32>).sum::<Result<u32, _>>()?;
    Ok(TICK * ticks)
}

/// Its resident memory in megabytes.
pub(crate) fn resident(process: Pid) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
