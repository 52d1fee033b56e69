//! The bugs that a run may plant, and the checker that has to find each (`reliability.md` section 4).

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the plan's; `Mutant::text` says what each does")]
pub enum Mutant {
    M1,
    M8,
    M10,
    M11,
    M16,
    M17,
    M18,
    M19,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Mutant; 8] = [
        Mutant::M1,
        Mutant::M8,
        Mutant::M10,
        Mutant::M11,
        Mutant::M16,
        Mutant::M17,
        Mutant::M18,
        Mutant::M19,
    ];

    /// Its name in the plan.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// The checker that has to catch it.
    pub fn checker(self) -> &'static str {
        self.row().1
    }

    /// What it does.
    pub fn text(self) -> &'static str {
        self.row().2
    }

    /// The one with this name.
    pub fn by_name(name: &str) -> Option<Mutant> {
        Mutant::ALL.into_iter().find(|mutant| mutant.name() == name)
    }

    fn row(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Mutant::M1 => ("M1", "C8", "a log write is reported as durable without a sync"),
            Mutant::M8 => ("M8", "C5", "a progress message overtakes queued events"),
            Mutant::M10 => ("M10", "C3", "an event is delivered again after a watch was behind"),
            Mutant::M11 => ("M11", "C3", "the events of a revision come in two responses"),
            Mutant::M16 => ("M16", "C8", "recovery cuts at damage although it was durable"),
            Mutant::M17 => ("M17", "C8", "a failed log write is taken for a good one"),
            Mutant::M18 => ("M18", "C8", "a log buffer is used again before its write is complete"),
            Mutant::M19 => ("M19", "C14", "apply walks keys in the order of a random hash"),
        }
    }
}
