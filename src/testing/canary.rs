//! The bugs that a run may plant, and the checker that has to find each (`reliability.md` section 4).

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the plan's; `Mutant::text` says what each does")]
pub enum Mutant {
    M1,
    M8,
    M9,
    M10,
    M11,
    M13,
    M15,
    M16,
    M17,
    M18,
    M19,
    M23,
    M24,
    M25,
    M26,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Mutant; 15] = [
        Mutant::M1,
        Mutant::M8,
        Mutant::M9,
        Mutant::M10,
        Mutant::M11,
        Mutant::M13,
        Mutant::M15,
        Mutant::M16,
        Mutant::M17,
        Mutant::M18,
        Mutant::M19,
        Mutant::M23,
        Mutant::M24,
        Mutant::M25,
        Mutant::M26,
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
            Mutant::M9 => ("M9", "C4", "the deletes of the compact revision are gone"),
            Mutant::M10 => ("M10", "C3", "an event is delivered again after a watch was behind"),
            Mutant::M11 => ("M11", "C3", "the events of a revision come in two responses"),
            Mutant::M13 => ("M13", "C7", "leases go by the wall clock"),
            Mutant::M15 => ("M15", "C8", "recovery takes frames whatever their check sums say"),
            Mutant::M16 => ("M16", "C8", "recovery cuts at damage although it was durable"),
            Mutant::M17 => ("M17", "C8", "a failed log write is taken for a good one"),
            Mutant::M18 => ("M18", "C8", "a log buffer is used again before its write is complete"),
            Mutant::M19 => ("M19", "C14", "apply walks keys in the order of a random hash"),
            Mutant::M23 => ("M23", "C4", "a watcher whose stream is full loses the event"),
            Mutant::M24 => ("M24", "C1", "a definite error is told after proposing"),
            Mutant::M25 => ("M25", "C10", "after a start the revision is that of the newest key"),
            Mutant::M26 => ("M26", "C13", "answers are made although nobody reads them"),
        }
    }
}
