//! Arguments and environment into [`Options`], by the rules of Go's `flag` package and of etcd.
//!
//! Written by hand rather than with clap: one dash for long names, switches that never take the next
//! argument, `--x=false`, Go's numbers and durations and the exact error texts are the interface here, and
//! clap's grammar differs on each of them.

use std::collections::BTreeMap;

use super::flags::{self, Class, FLAGS, Flag, GATES, Group, Kind};
use super::urls::{self, Url};
use super::values::{ValueError, parse_bool, parse_duration, parse_int, parse_uint, parse_uint32};

/// A value that has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Text(String),
    Bool(bool),
    Int(i64),
    Uint(u64),
    /// Nanoseconds.
    Duration(i64),
    Urls(Vec<Url>),
    /// The state of every gate, in the order of the table.
    Gates(Vec<bool>),
}

/// Raw options: every flag has a value, set or default. Not validated against each other.
#[derive(Clone, Debug, Default)]
pub struct Options {
    set: BTreeMap<&'static str, Value>,
}

/// What was asked for on the command line.
#[derive(Debug)]
pub enum Command {
    /// Start the server.
    Serve(Box<Options>, Vec<Notice>),
    /// Print the version.
    Version,
    /// Print usage and flags.
    Help,
}

/// Why the arguments do not lead to a server.
#[derive(Debug, PartialEq, Eq)]
pub enum OptionsError {
    /// Go's parser would have stopped: usage goes to standard error, the exit code is 2.
    Usage(String),
    /// Etcd would have logged these and exited with 1.
    Refused(Vec<String>, Vec<Notice>),
    /// A flag and its variable are both set.
    Conflict {
        /// The variable.
        variable: String,
        /// What else there is to log.
        notices: Vec<Notice>,
    },
}

/// Something to log once the log is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// `ETCD_VERSION` is set.
    SpecialVariable(String),
    /// A variable that no flag has, as `NAME=value`.
    UnknownVariable(String),
    /// A variable that was used.
    UsedVariable {
        /// Its name.
        variable: String,
        /// Its value.
        value: String,
    },
    /// A flag without an effect here.
    Ignored(&'static str),
    /// Both spellings of a flag are set and the second one counts.
    Shadowed(&'static str, &'static str),
    /// A setting that etcd warns about or changes.
    Adjusted(String),
}

impl Notice {
    /// Writes it to the log.
    pub fn log(&self) {
        match self {
            Notice::SpecialVariable(value) => {
                tracing::warn!(key = "ETCD_VERSION", %value, "cannot set special environment variable");
            }
            Notice::UnknownVariable(variable) => {
                tracing::warn!(environment_variable = %variable, "unrecognized environment variable");
            }
            Notice::UsedVariable { variable, value } => {
                tracing::info!(
                    variable_name = %variable,
                    variable_value = %value,
                    "recognized and used environment variable"
                );
            }
            Notice::Ignored(flag) => {
                tracing::warn!(flag = %flag, "flag has no effect in etchd and is ignored");
            }
            Notice::Shadowed(loser, winner) => {
                tracing::warn!(ignored = %loser, used = %winner, "a flag is set in two spellings");
            }
            Notice::Adjusted(text) => tracing::warn!("{text}"),
        }
    }
}

impl Options {
    /// True when the flag was set by an argument or a variable.
    pub fn is_set(&self, name: &str) -> bool {
        self.set.contains_key(name)
    }

    /// A text option.
    pub fn text(&self, name: &str) -> String {
        match self.value(name) {
            Value::Text(text) => text,
            other => unreachable!("--{name} is no text: {other:?}"),
        }
    }

    /// A switch.
    pub fn bool(&self, name: &str) -> bool {
        match self.value(name) {
            Value::Bool(value) => value,
            other => unreachable!("--{name} is no switch: {other:?}"),
        }
    }

    /// An unsigned number.
    pub fn uint(&self, name: &str) -> u64 {
        match self.value(name) {
            Value::Uint(value) => value,
            other => unreachable!("--{name} is no unsigned number: {other:?}"),
        }
    }

    /// Nanoseconds of a duration, which may be negative.
    pub fn nanoseconds(&self, name: &str) -> i64 {
        match self.value(name) {
            Value::Duration(value) => value,
            other => unreachable!("--{name} is no duration: {other:?}"),
        }
    }

    /// A list of URLs.
    pub fn urls(&self, name: &str) -> Vec<Url> {
        match self.value(name) {
            Value::Urls(urls) => urls,
            other => unreachable!("--{name} is no list of URLs: {other:?}"),
        }
    }

    fn value(&self, name: &str) -> Value {
        self.set.get(name).cloned().unwrap_or_else(|| {
            let flag = flags::find(name).unwrap_or_else(|| unreachable!("--{name} is not in the table"));
            read(flag, flag.default).unwrap_or_else(|error| unreachable!("default of --{name}: {error}"))
        })
    }
}

/// Reads arguments (without the program's name) and the environment.
///
/// # Errors
///
/// See [`OptionsError`]; the order of the checks is etcd's.
pub fn parse(arguments: &[String], environment: &[(String, String)]) -> Result<Command, OptionsError> {
    let mut options = Options::default();
    let rest = match parse_arguments(arguments, &mut options)? {
        Parsed::Help => return Ok(Command::Help),
        Parsed::Rest(rest) => rest,
    };
    let refused = |text: String| Err(OptionsError::Refused(vec![text], Vec::new()));
    if let Some(program @ ("gateway" | "grpc-proxy")) = arguments.first().map(String::as_str) {
        return refused(format!(
            "'{program}' is not provided by etchd; run the {program} of an etcd release"
        ));
    }
    if let Some(positional) = rest.first() {
        return refused(format!("{positional:?} is not a valid flag"));
    }
    if options.bool("version") {
        return Ok(Command::Version);
    }
    let variable =
        |name: &str| environment.iter().rev().find(|(key, _)| key == name).map(|(_, v)| v.as_str());
    let from_variable = variable("ETCD_CONFIG_FILE").unwrap_or_default();
    if !options.text("config-file").is_empty() || !from_variable.is_empty() {
        return refused(
            "--config-file is not in this version yet: give the same settings as flags or ETCD_ variables"
                .to_owned(),
        );
    }
    let mut notices = Vec::new();
    let mut errors = read_environment(environment, &mut options, &mut notices)?;
    resolve_aliases(&mut options, &mut notices);
    for (name, value) in &options.set {
        let flag = flags::find(name).unwrap_or_else(|| unreachable!("only flags of the table are set"));
        judge(flag, value, &mut notices, &mut errors);
    }
    if errors.is_empty() {
        Ok(Command::Serve(Box::new(options), notices))
    } else {
        Err(OptionsError::Refused(errors, notices))
    }
}

enum Parsed<'a> {
    Help,
    Rest(&'a [String]),
}

/// Go's `FlagSet.Parse`: stops at the first argument that is no flag, or behind `--`.
fn parse_arguments<'a>(mut rest: &'a [String], options: &mut Options) -> Result<Parsed<'a>, OptionsError> {
    let usage = |text: String| Err(OptionsError::Usage(text));
    while let Some((argument, after)) = rest.split_first() {
        if argument.len() < 2 || !argument.starts_with('-') {
            break;
        }
        rest = after;
        if argument == "--" {
            break;
        }
        let body = argument.strip_prefix("--").unwrap_or(&argument[1..]);
        if body.starts_with(['-', '=']) {
            return usage(format!("bad flag syntax: {argument}"));
        }
        let (name, inline) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        let Some(flag) = flags::find(name) else {
            if matches!(name, "h" | "help") {
                return Ok(Parsed::Help);
            }
            return usage(format!("flag provided but not defined: -{name}"));
        };
        if flag.kind == Kind::Bool {
            let text = inline.unwrap_or("true");
            match read(flag, text) {
                Ok(value) => options.set.insert(flag.name, value),
                Err(error) => return usage(format!("invalid boolean value {text:?} for -{name}: {error}")),
            };
            continue;
        }
        let text = match (inline, rest.split_first()) {
            (Some(text), _) => text,
            (None, Some((next, after))) => {
                rest = after;
                next
            }
            (None, None) => return usage(format!("flag needs an argument: -{name}")),
        };
        match read(flag, text) {
            Ok(value) => options.set.insert(flag.name, value),
            Err(error) => return usage(format!("invalid value {text:?} for flag -{name}: {error}")),
        };
    }
    Ok(Parsed::Rest(rest))
}

/// Takes variables for flags that no argument has set. Gives the texts of bad values.
fn read_environment(
    environment: &[(String, String)],
    options: &mut Options,
    notices: &mut Vec<Notice>,
) -> Result<Vec<String>, OptionsError> {
    let mut errors = Vec::new();
    let mut used = Vec::new();
    let already: Vec<String> = FLAGS.iter().filter(|f| options.is_set(f.name)).map(Flag::variable).collect();
    let mut sorted: Vec<&Flag> = FLAGS.iter().collect();
    sorted.sort_by_key(|flag| flag.name);
    let lookup = |name: &str| environment.iter().rev().find(|(key, _)| key == name).map(|(_, v)| v.as_str());
    if let Some(value) = lookup("ETCD_VERSION").filter(|value| !value.is_empty()) {
        notices.push(Notice::SpecialVariable(value.to_owned()));
    }
    for flag in sorted {
        let variable = flag.variable();
        if flag.name == "version" || already.contains(&variable) {
            continue;
        }
        let Some(value) = lookup(&variable).filter(|value| !value.is_empty()) else { continue };
        match read(flag, value) {
            Ok(read) => {
                options.set.insert(flag.name, read);
                notices.push(Notice::UsedVariable { variable: variable.clone(), value: value.to_owned() });
            }
            Err(error) => errors.push(format!("invalid value {value:?} for {variable}: {error}")),
        }
        used.push(variable);
    }
    for (variable, value) in environment {
        if used.contains(variable) || KNOWN_VARIABLES.contains(&variable.as_str()) {
            continue;
        }
        if already.contains(variable) {
            return Err(OptionsError::Conflict {
                variable: variable.clone(),
                notices: std::mem::take(notices),
            });
        }
        if variable.starts_with("ETCD_") {
            notices.push(Notice::UnknownVariable(format!("{variable}={value}")));
        }
    }
    Ok(errors)
}

/// Variables that are no flags and need no remark: `VERSION` has its own, the other two belong to etcd's
/// platform check and to its self-tests.
const KNOWN_VARIABLES: &[&str] = &["ETCD_VERSION", "ETCD_UNSUPPORTED_ARCH", "ETCD_VERIFY"];

/// Moves values of older spellings to the flags that they mean.
fn resolve_aliases(options: &mut Options, notices: &mut Vec<Notice>) {
    for flag in FLAGS {
        let Class::Alias(of) = flag.class else { continue };
        let Some(value) = options.set.remove(flag.name) else { continue };
        if options.is_set(of) {
            notices.push(Notice::Shadowed(flag.name, of));
        } else {
            options.set.insert(of, value);
        }
    }
}

/// What the class of a flag says about a value that was set.
fn judge(flag: &'static Flag, value: &Value, notices: &mut Vec<Notice>, errors: &mut Vec<String>) {
    match flag.class {
        Class::Works | Class::Alias(_) => {}
        Class::Ignored | Class::Legacy => {
            if flag.name == "discovery-fallback" && *value == Value::Text("proxy".to_owned()) {
                errors.push(
                    "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\""
                        .to_owned(),
                );
            } else if let ("compact-hash-check-time", Value::Duration(nanoseconds @ ..=0)) =
                (flag.name, value)
            {
                let shown = if *nanoseconds == 0 { "0s".to_owned() } else { format!("{nanoseconds}ns") };
                errors.push(format!("--compact-hash-check-time must be >0 (set to {shown})"));
            } else {
                notices.push(Notice::Ignored(flag.name));
            }
        }
        Class::NotYet(harmless) => {
            let asks_nothing = std::iter::once(&flag.default)
                .chain(harmless)
                .any(|text| read(flag, text).is_ok_and(|accepted| accepted == *value));
            if !asks_nothing {
                errors.push(refusal(flag, value));
            }
        }
    }
}

/// The text for a value that this version cannot honour.
fn refusal(flag: &Flag, value: &Value) -> String {
    let wrong = match (flag.name, value) {
        ("auto-compaction-mode", Value::Text(mode)) if mode.is_empty() => {
            Some("undefined auto-compaction-mode".to_owned())
        }
        ("auto-compaction-mode", Value::Text(mode)) => Some(format!("unknown auto-compaction-mode {mode:?}")),
        ("logger", Value::Text(logger)) if logger == "capnslog" => {
            Some("--logger=capnslog is removed in v3.5".to_owned())
        }
        ("logger", Value::Text(logger)) => Some(format!("unknown logger option {logger:?}")),
        _ => None,
    };
    wrong.unwrap_or_else(|| {
        let default = if flag.default.is_empty() { "''" } else { flag.default };
        format!("--{} is not in this version yet: remove it or set its default, {default}", flag.name)
    })
}

/// Reads one value by the flag's kind.
fn read(flag: &Flag, text: &str) -> Result<Value, ValueError> {
    // Switches of long ago took anything.
    if flag.class == Class::Legacy {
        return Ok(Value::Bool(true));
    }
    Ok(match flag.kind {
        Kind::Text => Value::Text(text.to_owned()),
        Kind::Bool => Value::Bool(parse_bool(text)?),
        Kind::Int => Value::Int(parse_int(text)?),
        Kind::Uint => Value::Uint(parse_uint(text)?),
        Kind::Uint32 => Value::Uint(u64::from(parse_uint32(text)?)),
        Kind::Duration => Value::Duration(parse_duration(text)?),
        // An empty list leaves the default in place, but the flag counts as set.
        Kind::Urls if text.is_empty() && flag.default.is_empty() => Value::Urls(Vec::new()),
        Kind::Urls if text.is_empty() => Value::Urls(urls::parse_list(flag.default)?),
        Kind::Urls => Value::Urls(urls::parse_list(text)?),
        Kind::OneOf(words) if words.contains(&text) => Value::Text(text.to_owned()),
        Kind::OneOf(_) => return Err(ValueError("invalid value".to_owned())),
        Kind::Gates => Value::Gates(read_gates(text)?),
    })
}

/// `A=true,B=false` over the defaults.
fn read_gates(text: &str) -> Result<Vec<bool>, ValueError> {
    let mut gates: Vec<bool> = GATES.iter().map(|(_, default)| *default).collect();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, value) =
            pair.split_once('=').ok_or_else(|| ValueError(format!("missing bool value for {pair}")))?;
        let (name, value) = (name.trim(), value.trim());
        let position = GATES
            .iter()
            .position(|(gate, _)| *gate == name)
            .ok_or_else(|| ValueError(format!("unrecognized feature gate: {name}")))?;
        gates[position] = parse_bool(value).map_err(|_| {
            let reason = format!("strconv.ParseBool: parsing {value:?}: invalid syntax");
            ValueError(format!("invalid value of {name}={value}, err: {reason}"))
        })?;
    }
    Ok(gates)
}

/// The lines that follow a bad flag and open the help page.
pub const USAGE: &str = "Usage:

  etchd [flags]
    Start a server.

  etchd --version
    Show the version.

  etchd -h | --help
    Show this help with all flags.

  Every flag is also an environment variable: --data-dir is ETCD_DATA_DIR.
";

/// All flags with defaults, by heading, as `--help` prints them.
pub fn help() -> String {
    let mut page = String::new();
    for group in Group::ALL {
        page.push_str(&format!("\n{}:\n", group.title()));
        for flag in FLAGS.iter().filter(|flag| flag.group == group && flag.class != Class::Legacy) {
            page.push_str(&format!("  --{} '{}'\n    {}", flag.name, flag.default, flag.help));
            page.push_str(match flag.class {
                Class::Works | Class::Legacy | Class::Alias(_) => "\n",
                Class::Ignored => " (ignored)\n",
                Class::NotYet(_) => " (not in this version yet)\n",
            });
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn serve(words: &[&str], pairs: &[(&str, &str)]) -> (Options, Vec<Notice>) {
        match parse(&strings(words), &variables(pairs)) {
            Ok(Command::Serve(options, notices)) => (*options, notices),
            other => panic!("{words:?} {pairs:?} gave {other:?}"),
        }
    }

    fn refused(words: &[&str], pairs: &[(&str, &str)]) -> String {
        match parse(&strings(words), &variables(pairs)) {
            Err(OptionsError::Refused(texts, _)) => texts.join("; "),
            other => panic!("{words:?} {pairs:?} gave {other:?}"),
        }
    }

    #[test]
    fn defaults_can_be_read() {
        for flag in FLAGS {
            assert!(read(flag, flag.default).is_ok(), "default of {}", flag.name);
            if let Class::NotYet(harmless) = flag.class {
                for text in harmless {
                    assert!(read(flag, text).is_ok(), "{text:?} of {}", flag.name);
                }
            }
        }
    }

    /// Texts of a real etcd 3.5.1; each ends with exit code 2.
    #[test]
    fn usage_errors() {
        let table: &[(&[&str], &str)] = &[
            (&["--bogus"], "flag provided but not defined: -bogus"),
            (&["-bogus=3"], "flag provided but not defined: -bogus"),
            (&["---x"], "bad flag syntax: ---x"),
            (&["--=x"], "bad flag syntax: --=x"),
            (&["--name"], "flag needs an argument: -name"),
            (&["--heartbeat-interval", "x"], "invalid value \"x\" for flag -heartbeat-interval: parse error"),
            (&["--heartbeat-interval=-1"], "invalid value \"-1\" for flag -heartbeat-interval: parse error"),
            (
                &["--heartbeat-interval", "99999999999999999999999"],
                "invalid value \"99999999999999999999999\" for flag -heartbeat-interval: value out of range",
            ),
            (
                &["--grpc-keepalive-min-time", "5"],
                "invalid value \"5\" for flag -grpc-keepalive-min-time: parse error",
            ),
            (&["--pre-vote=maybe"], "invalid boolean value \"maybe\" for -pre-vote: parse error"),
            (&["--pre-vote="], "invalid boolean value \"\" for -pre-vote: parse error"),
            (
                &["--listen-client-urls", "foo"],
                "invalid value \"foo\" for flag -listen-client-urls: URL scheme must be http, https, unix, or \
                 unixs: foo",
            ),
            (
                &["--initial-cluster-state", "foo"],
                "invalid value \"foo\" for flag -initial-cluster-state: invalid value",
            ),
            (
                &["--feature-gates", "Foo=true"],
                "invalid value \"Foo=true\" for flag -feature-gates: unrecognized feature gate: Foo",
            ),
            (
                &["--feature-gates", "AllBeta"],
                "invalid value \"AllBeta\" for flag -feature-gates: missing bool value for AllBeta",
            ),
            // The first bad flag ends the parsing, whatever stands behind it.
            (&["--bogus", "--help"], "flag provided but not defined: -bogus"),
        ];
        for (words, expected) in table {
            match parse(&strings(words), &[]) {
                Err(OptionsError::Usage(text)) => assert_eq!(text, *expected, "{words:?}"),
                other => panic!("{words:?} gave {other:?}"),
            }
        }
    }

    #[test]
    fn spellings() {
        for words in [&["-name", "x"][..], &["--name", "x"], &["--name=x"], &["--name", "y", "-name=x"]] {
            assert_eq!(serve(words, &[]).0.text("name"), "x", "{words:?}");
        }
        assert!(serve(&["--unsafe-no-fsync"], &[]).0.bool("unsafe-no-fsync"));
        assert!(!serve(&["--unsafe-no-fsync=F"], &[]).0.bool("unsafe-no-fsync"));
        assert_eq!(serve(&["--name=a=b"], &[]).0.text("name"), "a=b");
        // A dash value is taken as the value, as Go does.
        assert_eq!(serve(&["--name", "--pre-vote"], &[]).0.text("name"), "--pre-vote");
        assert_eq!(serve(&["--heartbeat-interval", "0b11"], &[]).0.uint("heartbeat-interval"), 3);
        assert_eq!(serve(&["--"], &[]).0.text("name"), "default");
    }

    #[test]
    fn positional_arguments() {
        assert_eq!(refused(&["extra"], &[]), "\"extra\" is not a valid flag");
        assert_eq!(refused(&["--pre-vote", "false"], &[]), "\"false\" is not a valid flag");
        assert_eq!(refused(&["--", "extra"], &[]), "\"extra\" is not a valid flag");
        assert_eq!(refused(&["-", "extra"], &[]), "\"-\" is not a valid flag");
        assert_eq!(refused(&["--version", "extra"], &[]), "\"extra\" is not a valid flag");
        assert!(refused(&["gateway", "start"], &[]).starts_with("'gateway' is not provided by etchd"));
        assert!(refused(&["grpc-proxy"], &[]).starts_with("'grpc-proxy' is not provided by etchd"));
    }

    #[test]
    fn help_and_version() {
        for words in [&["-h"][..], &["--help"], &["--help=false", "--bogus"], &["--name", "x", "-help"]] {
            assert!(matches!(parse(&strings(words), &[]), Ok(Command::Help)), "{words:?}");
        }
        assert!(matches!(parse(&strings(&["--version"]), &[]), Ok(Command::Version)));
        // Bad variables do not matter to it, and the special one does not ask for it.
        assert!(matches!(
            parse(&strings(&["--version"]), &variables(&[("ETCD_HEARTBEAT_INTERVAL", "x")])),
            Ok(Command::Version)
        ));
        let (_, notices) = serve(&[], &[("ETCD_VERSION", "1")]);
        assert_eq!(notices, [Notice::SpecialVariable("1".to_owned())]);
        let page = help();
        assert!(page.contains("  --listen-client-urls 'http://localhost:2379'\n"));
        assert!(!page.contains("--vv"));
    }

    #[test]
    fn variables_are_read() {
        let (options, notices) = serve(&[], &[("ETCD_NAME", "x"), ("HOME", "/"), ("ETCD_WAL_DIR", "")]);
        assert_eq!(options.text("name"), "x");
        assert!(!options.is_set("wal-dir"), "an empty variable is not set");
        let used = Notice::UsedVariable { variable: "ETCD_NAME".to_owned(), value: "x".to_owned() };
        assert_eq!(notices, [used, Notice::UnknownVariable("ETCD_WAL_DIR=".to_owned())]);
        let (_, notices) = serve(&[], &[("ETCD_PORT", "tcp://10.0.0.1:2379"), ("ETCD_VERIFY", "all")]);
        assert_eq!(notices, [Notice::UnknownVariable("ETCD_PORT=tcp://10.0.0.1:2379".to_owned())]);
    }

    #[test]
    fn bad_variables() {
        assert_eq!(
            refused(&[], &[("ETCD_GRPC_KEEPALIVE_MIN_TIME", "5"), ("ETCD_HEARTBEAT_INTERVAL", "zz")]),
            "invalid value \"5\" for ETCD_GRPC_KEEPALIVE_MIN_TIME: parse error; \
             invalid value \"zz\" for ETCD_HEARTBEAT_INTERVAL: parse error"
        );
    }

    /// Even when both agree, and even when the variable is empty.
    #[test]
    fn a_flag_and_its_variable_conflict() {
        for value in ["x", ""] {
            match parse(&strings(&["--name", "x"]), &variables(&[("ETCD_NAME", value)])) {
                Err(OptionsError::Conflict { variable, .. }) => assert_eq!(variable, "ETCD_NAME"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn classes() {
        // Ignored and legacy ones get one warning.
        let (_, notices) = serve(&["--max-wals", "3", "--vv=whatever", "--snapshot"], &[]);
        assert_eq!(
            notices,
            [Notice::Ignored("max-wals"), Notice::Ignored("snapshot"), Notice::Ignored("vv")]
        );
        // What is not there yet is refused unless it asks for nothing new.
        assert_eq!(
            refused(&["--quota-backend-bytes", "1"], &[]),
            "--quota-backend-bytes is not in this version yet: remove it or set its default, 0"
        );
        for words in [
            &["--quota-backend-bytes", "0x80000000"][..],
            &["--quota-backend-bytes=0"],
            &["--cert-file="],
            &["--auth-token", "simple", "--logger=zap", "--metrics=basic"],
            &["--log-outputs=stderr"],
            &["--corrupt-check-time", "0ms"],
            &["--listen-metrics-urls", ""],
            &["--feature-gates", "InitialCorruptCheck=false"],
            &["--strict-reconfig-check=true", "--pre-vote"],
            &["--auto-compaction-retention=0", "--auto-compaction-mode=revision"],
        ] {
            assert_eq!(serve(words, &[]).1, [], "{words:?}");
        }
        assert_eq!(refused(&["--feature-gates", "InitialCorruptCheck=true"], &[]).matches("yet").count(), 1);
        assert_eq!(refused(&["--cert-file", "a", "--key-file", "b"], &[]).matches("yet").count(), 2);
        assert_eq!(refused(&["--auto-compaction-mode", "foo"], &[]), "unknown auto-compaction-mode \"foo\"");
        assert_eq!(refused(&["--logger", "foo"], &[]), "unknown logger option \"foo\"");
        assert_eq!(
            refused(&["--discovery-fallback", "proxy"], &[]),
            "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\""
        );
        assert!(refused(&["--config-file", "x"], &[]).contains("not in this version yet"));
        assert!(refused(&[], &[("ETCD_CONFIG_FILE", "x")]).contains("not in this version yet"));
    }

    #[test]
    fn older_spellings() {
        let (options, notices) = serve(&["--experimental-watch-progress-notify-interval", "5s"], &[]);
        assert_eq!(options.nanoseconds("watch-progress-notify-interval"), 5_000_000_000);
        assert_eq!(notices, []);
        let both =
            ["--experimental-watch-progress-notify-interval=5s", "--watch-progress-notify-interval=7s"];
        let (options, notices) = serve(&both, &[]);
        assert_eq!(options.nanoseconds("watch-progress-notify-interval"), 7_000_000_000);
        assert_eq!(
            notices,
            [Notice::Shadowed(
                "experimental-watch-progress-notify-interval",
                "watch-progress-notify-interval"
            )]
        );
    }

    /// An empty list keeps the default, but counts as set.
    #[test]
    fn empty_lists() {
        let (options, _) = serve(&["--listen-client-urls", ""], &[]);
        assert!(options.is_set("listen-client-urls"));
        assert_eq!(options.urls("listen-client-urls")[0].as_str(), "http://localhost:2379");
    }
}
