//! What a process has used.

use std::ops::{Add, Sub};
use std::time::Duration;

use anyhow::Context;
use nix::unistd::Pid;

/// Time on a processor.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spent {
    /// Of threads that have not ended, to the nanosecond.
    total: Duration,
    /// In the program and in the kernel, as the kernel's sampling divides it.
    user: Duration,
    system: Duration,
}

impl Spent {
    /// What `process` has spent until now.
    pub(crate) fn by(process: Pid) -> anyhow::Result<Spent> {
        let (user, system) = ticks(process)?;
        Ok(Spent { total: cpu(process)?, user, system })
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.total.as_secs_f64()
    }

    /// How many of the seconds were spent in the kernel.
    pub(crate) fn in_kernel(&self) -> f64 {
        let sampled = (self.user + self.system).as_secs_f64();
        if sampled > 0.0 { self.seconds() * self.system.as_secs_f64() / sampled } else { 0.0 }
    }
}

impl Add for Spent {
    type Output = Spent;

    fn add(self, other: Spent) -> Spent {
        Spent { total: self.total + other.total, user: self.user + other.user, system: self.system + other.system }
    }
}

impl Sub for Spent {
    type Output = Spent;

    /// What was spent since; a thread that has ended in between takes its time with it.
    fn sub(self, before: Spent) -> Spent {
        Spent {
            total: self.total.saturating_sub(before.total),
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
        }
    }
}

/// The time that its threads have spent on a processor; of those that have not ended.
fn cpu(process: Pid) -> anyhow::Result<Duration> {
    let mut nanoseconds = 0;
    for task in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        nanoseconds += text.split(' ').next().context("schedstat is empty")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// The time that all its threads have spent on a processor, those that have ended too, to 10 ms.
pub(crate) fn cpu_ever(process: Pid) -> anyhow::Result<Duration> {
    let (user, system) = ticks(process)?;
    Ok(user + system)
}

fn ticks(process: Pid) -> anyhow::Result<(Duration, Duration)> {
    const TICK: Duration = Duration::from_millis(10);
    let text = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name of the program, which may have spaces, ends with the last bracket.
    let (_, fields) = text.rsplit_once(") ").context("stat has no name")?;
    // `utime` and `stime`, the 14th and the 15th field.
    let mut ticks = fields.split(' ').skip(11).map(str::parse::<u32>);
    let mut next = || anyhow::Ok(TICK * ticks.next().context("stat is cut off")??);
    Ok((next()?, next()?))
}

/// Its resident memory in megabytes.
pub(crate) fn resident(process: Pid) -> anyhow::Result<f64> {
    memory(process, "VmRSS:")
}

/// The most resident memory that it has had since [`forget_peak`], or ever, in megabytes.
pub(crate) fn peak(process: Pid) -> anyhow::Result<f64> {
    memory(process, "VmHWM:")
}

/// Has [`peak`] begin anew.
pub(crate) fn forget_peak(process: Pid) -> anyhow::Result<()> {
    // 5 resets the peak of resident memory (proc_pid_clear_refs(5)).
    Ok(std::fs::write(format!("/proc/{process}/clear_refs"), "5")?)
}

fn memory(process: Pid, field: &str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("no {field}"))?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
