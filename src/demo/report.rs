//! What the demo tells: a line for each step as it ends, and a summary.

use std::time::Instant;

use serde::Serialize;

use crate::federation::Home;
use crate::output::{self, Format, say};

/// What has been done so far.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    ok: bool,
    seconds: f64,
    home: String,
    kubeconfig: String,
    steps: Vec<Step>,
    #[serde(skip)]
    began: Instant,
}

#[derive(Debug, Serialize)]
struct Step {
    title: &'static str,
    ok: bool,
    /// What was seen, or why the step failed.
    detail: String,
    seconds: f64,
}

impl Report {
    /// Nothing yet.
    pub(super) fn begin(home: &Home) -> Report {
        let kubeconfig = home.kubeconfig().display().to_string();
        let home = home.path().display().to_string();
        Report { ok: true, seconds: 0.0, home, kubeconfig, steps: Vec::new(), began: Instant::now() }
    }

    /// Takes a step and tells of it.
    pub(super) async fn step<T>(
        &mut self,
        title: &'static str,
        step: impl Future<Output = anyhow::Result<(String, T)>>,
    ) -> Option<T> {
        let began = Instant::now();
        let (ok, detail, found) = match step.await {
            Ok((detail, found)) => (true, detail, Some(found)),
            Err(error) => (false, format!("{error:#}"), None),
        };
        let seconds = began.elapsed().as_secs_f64();
        say(format_args!("{} {title:<48} {seconds:5.2} s   {detail}", glyph(ok)));
        self.ok &= ok;
        self.seconds = self.began.elapsed().as_secs_f64();
        self.steps.push(Step { title, ok, detail, seconds });
        found
    }

    /// Whether every step went as it should.
    pub(super) fn is_good(&self) -> bool {
        self.ok
    }

    /// Prints the summary.
    pub(super) fn print(&self, format: Format) -> anyhow::Result<()> {
        if format != Format::Table {
            return output::document(format, self);
        }
        let Report { ok, seconds, home: _, kubeconfig: _, steps, began: _ } = self;
        say("");
        let row = |step: &Step| {
            vec![
                step.title.to_owned(),
                glyph(step.ok).to_owned(),
                format!("{:.2} s", step.seconds),
                step.detail.clone(),
            ]
        };
        output::table(&["STEP", "RESULT", "TIME", "SEEN"], steps.iter().map(row))?;
        let right = steps.iter().filter(|step| step.ok).count();
        let verdict = if *ok { "all as it should be" } else { "not as it should be" };
        output::write_stdout(format!("\n{right} of {} steps, {verdict}, in {seconds:.1} s\n", steps.len()).as_bytes())
    }
}

fn glyph(ok: bool) -> &'static str {
    if ok { "✓" } else { "✗" }
}
