//! Which edge serves: io_uring where it can be used, or else epoll.
//!
//! Owns: the rule.
//! Takes: the operator's wish, what the kernel was seen to offer. Gives: the choice, with one warning if it is not
//! the best, or the reason why the wish can't be granted.
//! Always true: an edge that was asked for by name is taken or refused, never replaced.
//! Not here: trying the kernel (`edge::ring`), logging.

use crate::edge::io::SetupError;
use crate::edge::ring::Features;

/// What the operator wants (`--io`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The best that there is.
    Auto,
    /// `edge::ring` or nothing.
    Uring,
    /// `edge::epoll`, without looking further.
    Epoll,
}

/// The edge that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `edge::ring`.
    Uring,
    /// `edge::epoll`.
    Epoll,
}

/// What came of a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What serves.
    pub kind: Kind,
    /// For the log, if something better was wanted: the reason and what to do about it.
    pub warning: Option<String>,
}

impl Kind {
    /// As the log names it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Uring => "io_uring",
            Kind::Epoll => "epoll",
        }
    }
}

/// Chooses. `probe`, mostly [`Features::probe`], is asked unless the wish makes that needless.
///
/// # Errors
/// Why io_uring, which was asked for by name, can't be used.
pub fn choose(
    wish: Wish,
    probe: impl FnOnce() -> Result<Features, SetupError>,
) -> Result<Choice, SetupError> {
    if wish == Wish::Epoll {
        return Ok(Choice { kind: Kind::Epoll, warning: None });
    }
    match probe().and_then(|features| features.suffice()) {
        Ok(()) => Ok(Choice { kind: Kind::Uring, warning: None }),
        Err(error) if wish == Wish::Uring => Err(error),
        Err(error) => Ok(Choice { kind: Kind::Epoll, warning: Some(falls_back(&error)) }),
    }
}

/// The warning of a server that serves by epoll because of `error`.
pub fn falls_back(error: &SetupError) -> String {
    format!("serving by epoll, which is slower: {error}")
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn reasons() -> [(SetupError, &'static str); 6] {
        let error = io::Error::from_raw_os_error;
        [
            (SetupError::Forbidden("receive by io_uring", error(libc::EPERM)), "kernel.io_uring_disabled"),
            (SetupError::Absent, "Linux 6.1 or later"),
            (SetupError::Memory(error(libc::ENOMEM)), "ulimit -l"),
            (SetupError::Descriptors(error(libc::EMFILE)), "ulimit -n"),
            (SetupError::Lacks("the single issuer mode"), "Linux 6.1 or later"),
            (SetupError::Failed("receive by io_uring", error(libc::EIO)), "receive by io_uring"),
        ]
    }

    #[test]
    fn the_ring_is_taken_where_it_can_be() {
        for wish in [Wish::Auto, Wish::Uring] {
            for features in [Features::ALL, Features::LEAST] {
                let choice = choose(wish, || Ok(features)).expect("can be granted");
                assert_eq!(choice, Choice { kind: Kind::Uring, warning: None });
            }
        }
    }

    #[test]
    fn epoll_is_taken_by_name_without_a_look_at_the_ring() {
        let choice = choose(Wish::Epoll, || panic!("nothing is tried")).expect("can be granted");
        assert_eq!(choice, Choice { kind: Kind::Epoll, warning: None });
    }

    #[test]
    fn any_reason_against_the_ring_leads_to_epoll_and_is_told_once() {
        for (error, advice) in reasons() {
            let choice = choose(Wish::Auto, || Err(error)).expect("falls back");
            let warning = choice.warning.expect("says why");
            assert_eq!(choice.kind, Kind::Epoll);
            assert!(warning.contains("epoll") && warning.contains(advice), "{warning}");
            assert!(!warning.contains('\n'), "one line");
        }
        for features in [
            Features { multishot_receive: false, ..Features::ALL },
            Features { buffer_rings: false, ..Features::ALL },
        ] {
            let choice = choose(Wish::Auto, || Ok(features)).expect("falls back");
            assert_eq!(choice.kind, Kind::Epoll);
            assert!(choice.warning.expect("says why").contains("lacks"));
        }
    }

    #[test]
    fn a_ring_by_name_is_never_replaced() {
        for (error, advice) in reasons() {
            let text = choose(Wish::Uring, || Err(error)).expect_err("is refused").to_string();
            assert!(text.contains(advice), "{text}");
        }
        let features = Features { multishot_receive: false, ..Features::ALL };
        choose(Wish::Uring, || Ok(features)).expect_err("is refused");
    }
}
