//! Where and with what it was measured.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::proxy::Program;

/// The machine, and the versions of what was measured on it.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    date: String,
    processor: String,
    cores: usize,
    /// In gigabytes.
    memory: f64,
    kernel: String,
    versions: Vec<(&'static str, String)>,
}

impl Machine {
    pub(crate) fn this(binary: &Path) -> anyhow::Result<Machine> {
        let versions = Program::all(binary).into_iter();
        Ok(Machine {
            date: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
            processor: field("/proc/cpuinfo", "model name")?,
            cores: std::thread::available_parallelism()?.get(),
            memory: field("/proc/meminfo", "MemTotal")?.trim_end_matches(" kB").parse::<f64>()? / (1024.0 * 1024.0),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            versions: versions.filter_map(|program| Some((program.name(), program.version()?))).collect(),
        })
    }
}

fn field(file: &str, name: &str) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file)?;
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(key, _)| key.trim() == name);
    Ok(found.map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned()))
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { date, processor, cores, memory, kernel, versions } = self;
        writeln!(f, "{date}; {processor}, {cores} cores, {memory:.0} GB; Linux {kernel}")?;
        for (program, version) in versions {
            writeln!(f, "  {program:<8} {version}")?;
        }
        Ok(())
    }
}
