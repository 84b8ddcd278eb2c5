//! The notation in which the config tables are written: one line per config.
//!
//! ```text
//! "name" Kind "default" (bounds) rw|ro "documentation" => "broker synonym";
//! ```
//! `_` stands for no default; a config without a synonym has no arrow. Bounds are `()`,
//! `(min 1)`, `(1, 9)`, `(-1 or 1, 9)`, `(one "a" "b")`, `(any_case "a")`, `(list "a" "b")` or
//! `(replicas)`. The macro is called with braces, which keeps rustfmt from breaking the lines.

/// Makes a `&'static [ConfigDef]` of lines in the notation above.
macro_rules! rows {
    ($($name:literal $kind:ident $default:tt $bounds:tt $change:ident $doc:literal $(=> $syn:literal)?;)*) => {
        &[$(ConfigDef {
            name: $name,
            kind: Kind::$kind,
            default: $crate::configs::table::option!($default),
            valid: $crate::configs::table::bounds!($bounds),
            read_only: $crate::configs::table::read_only!($change),
            sensitive: matches!(Kind::$kind, Kind::Password),
            doc: $doc,
            broker_synonym: $crate::configs::table::option!($($syn)?),
        }),*]
    };
}

/// `_` or nothing is `None`, a literal is `Some`.
macro_rules! option {
    () => {
        None
    };
    (_) => {
        None
    };
    ($value:literal) => {
        Some($value)
    };
}

/// Whether a running broker can take a new value.
macro_rules! read_only {
    (ro) => {
        true
    };
    (rw) => {
        false
    };
}

/// The bounds column.
macro_rules! bounds {
    (()) => {
        Valid::Any
    };
    ((min $min:literal)) => {
        Valid::Range { min: $min, max: None }
    };
    ((one $($word:literal)+)) => {
        Valid::OneOf(&[$($word),+])
    };
    ((any_case $($word:literal)+)) => {
        Valid::OneOfAnyCase(&[$($word),+])
    };
    ((list $($word:literal)+)) => {
        Valid::ListOf(&[$($word),+])
    };
    ((replicas)) => {
        Valid::ThrottledReplicas
    };
    (($also:literal or $min:literal, $max:literal)) => {
        Valid::RangeOr { also: $also, min: $min, max: $max }
    };
    (($min:literal, $max:literal)) => {
        Valid::Range { min: $min, max: Some($max) }
    };
}

pub(in crate::configs) use {bounds, option, read_only, rows};
