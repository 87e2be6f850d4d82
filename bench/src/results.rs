//! Where results go.

use std::path::PathBuf;

use anyhow::Context;
use serde::Serialize;

use crate::chart;
use crate::machine::Machine;
use crate::report::Report;

/// Everything that was measured, told and written as it comes: what ends early is not lost.
#[derive(Serialize)]
pub(crate) struct Results {
    machine: Machine,
    reports: Vec<Report>,
    #[serde(skip)]
    folder: Option<PathBuf>,
}

impl Results {
    pub(crate) fn new(machine: Machine, folder: Option<PathBuf>) -> anyhow::Result<Results> {
        eprintln!("{machine}");
        if let Some(folder) = &folder {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        Ok(Results { machine, reports: Vec::new(), folder })
    }

    pub(crate) fn add(&mut self, report: Report) -> anyhow::Result<()> {
        eprintln!("{report}");
        self.reports.push(report);
        self.write()
    }

    pub(crate) fn json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    fn write(&self) -> anyhow::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let reports: String = self.reports.iter().map(|report| format!("{report}\n")).collect();
        let mut files = vec![
            ("results.json".to_owned(), self.json()?),
            ("results.txt".to_owned(), format!("{}\n{reports}", self.machine)),
        ];
        for Report { scenario, comparisons, slopes, .. } in &self.reports {
            if !comparisons.is_empty() {
                files.push((format!("{scenario}-cpu.svg"), chart::cpu(comparisons)));
                files.push((format!("{scenario}-latency.svg"), chart::latency(comparisons)));
                files.push((format!("{scenario}-memory.svg"), chart::memory(comparisons)));
            }
            if !slopes.is_empty() {
                files.push((format!("{scenario}-slopes.svg"), chart::slopes(slopes)));
            }
        }
        for (name, content) in files {
            let file = folder.join(name);
            std::fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(())
    }
}
