//! RFC 9113, rule by rule.
