//! What is done differently from what a document says, each with a reason to be found in the table that has it.

use super::Reader;
use super::transcript::Step;

/// A document as it is followed here.
pub(crate) struct Edition {
    /// Text that stands for other text throughout.
    pub(crate) substitutions: &'static [(&'static str, &'static str)],
    pub(crate) amendments: &'static [Amendment],
    pub(crate) asides: &'static [Aside],
}

/// A step that is another one here.
pub(crate) struct Amendment {
    /// A phrase of its commands, or of the text before them: the first amendment whose phrase is there applies.
    pub(crate) at: &'static str,
    pub(crate) change: Change,
}

pub(crate) enum Change {
    /// These are the commands instead.
    Run(&'static str),
    /// This is printed instead.
    Prints(&'static str),
}

/// What a document asks for in words.
pub(crate) struct Aside {
    /// The words.
    pub(crate) phrase: &'static str,
    pub(crate) errand: Errand,
}

/// How it is done.
pub(crate) enum Errand {
    /// By a script, of which no more is asked than that it succeeds.
    Run(&'static str),
    /// By a script that prints this.
    Look(&'static str, &'static str),
    /// By a document of ours.
    Follow(&'static str),
    /// By more than a reader would do.
    Check(fn(&mut Reader)),
}

impl Edition {
    /// As it is written.
    pub(crate) const PLAIN: Edition = Edition { substitutions: &[], amendments: &[], asides: &[] };

    pub(crate) fn substituted(&self, document: &str) -> String {
        self.substitutions.iter().fold(document.to_owned(), |text, (from, to)| text.replace(from, to))
    }

    /// Every phrase that has to be in the document.
    pub(crate) fn phrases(&self) -> impl Iterator<Item = &'static str> {
        let amended = self.amendments.iter().map(|amendment| amendment.at);
        amended.chain(self.asides.iter().map(|aside| aside.phrase))
    }
}

impl Amendment {
    /// The step as it is done here, and whether what it prints is held against what it is said to print.
    pub(crate) fn applied(&self, step: Step) -> (Step, bool) {
        match self.change {
            Change::Run(script) => (Step { commands: vec![script.to_owned()], printed: Vec::new(), ..step }, false),
            Change::Prints(text) => (Step { printed: lines(text), ..step }, true),
        }
    }
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}
