//! Subscriptions by regular expression (RE2 syntax, as Kafka's): which topics match.
//!
//! Expressions come from clients: their length and what they compile to are bounded, and matching takes linear time.

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;
use regex::{Regex, RegexBuilder};

use super::{Catalog, Refusal};

/// Bytes of an expression.
const LENGTH_MAX: usize = 16 << 10;
/// Bytes that one expression compiles to.
const COMPILED_MAX: usize = 1 << 20;
/// Bytes of the names that one expression matches: they become a record.
const MATCHED_MAX: usize = 512 << 10;

/// The topics that an expression matches as a whole.
///
/// # Errors
/// `INVALID_REGULAR_EXPRESSION`, with what is wrong with it.
pub(super) fn resolve(expression: &str, topics: &Catalog) -> Result<BTreeSet<String>, Refusal> {
    let regex = compile(expression)?;
    let matching = topics.topic_names().filter(|name| regex.is_match(name));
    let matched: BTreeSet<String> = matching.map(str::to_owned).collect();
    if matched.iter().map(|name| name.len() + 2).sum::<usize>() > MATCHED_MAX {
        return Err(invalid(expression, "it matches too many topics"));
    }
    Ok(matched)
}

fn invalid(expression: &str, why: &str) -> Refusal {
    let shown: String = expression.chars().take(100).collect();
    let text = format!("SubscribedTopicRegex `{shown}` is not a valid regular expression: {why}.");
    Refusal::new(ResponseError::InvalidRegularExpression, text)
}

fn compile(expression: &str) -> Result<Regex, Refusal> {
    if expression.len() > LENGTH_MAX {
        return Err(invalid(expression, "it is too long"));
    }
    let original = expression;
    let expression = unquoted(expression);
    let build = |text: &str| {
        RegexBuilder::new(text).size_limit(COMPILED_MAX).dfa_size_limit(COMPILED_MAX).build()
    };
    // By itself first: anchors around half an expression could make it a whole one.
    let built = build(&expression).and_then(|_| build(&format!("\\A(?:{expression})\\z")));
    built.map_err(|error| {
        let text = error.to_string();
        let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        invalid(original, why)
    })
}

/// The expression with `\Q...\E`, as RE2 quotes, written out.
fn unquoted(expression: &str) -> String {
    let mut to = String::with_capacity(expression.len());
    let mut rest = expression;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        to.push_str(before);
        if let Some(quoted) = escape.strip_prefix("\\Q") {
            let (quoted, after) = quoted.split_once("\\E").unwrap_or((quoted, ""));
            to.push_str(&regex::escape(quoted));
            rest = after;
        } else {
            let length = escape.chars().take(2).map(char::len_utf8).sum();
            to.push_str(&escape[..length]);
            rest = &escape[length..];
        }
    }
    to.push_str(rest);
    to
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::TopicFacts;
    use super::*;

    fn matched(expression: &str) -> Result<Vec<String>, ResponseError> {
        let facts = TopicFacts { id: uuid::Uuid::nil(), partitions: 1, racks: Vec::new() };
        let names = ["metrics.cpu", "metrics.ram", "logs", "metricsXcpu"];
        let topics = names.map(|name| (name.to_owned(), facts.clone()));
        let topics = Catalog::new(1, topics.into(), BTreeMap::new());
        let matched = resolve(expression, &topics).map_err(|refusal| refusal.code)?;
        Ok(matched.into_iter().collect())
    }

    #[test]
    fn a_topic_matches_as_a_whole() {
        assert_eq!(matched("metrics\\..*").unwrap(), ["metrics.cpu", "metrics.ram"]);
        assert_eq!(matched("metrics").unwrap(), Vec::<String>::new());
        assert_eq!(matched("logs|metrics.cpu").unwrap(), ["logs", "metrics.cpu", "metricsXcpu"]);
        assert_eq!(matched("\\Qmetrics.cpu\\E|lo\\Qg\\Es").unwrap(), ["logs", "metrics.cpu"]);
    }

    #[test]
    fn what_is_no_expression_or_too_large_is_refused() {
        let refused = Err(ResponseError::InvalidRegularExpression);
        for bad in ["(", "a)(b", "*", "[z-a]", "\\", "(?=look)", "(a)\\1", "((a{999}){999}){999}"] {
            assert_eq!(matched(bad), refused, "{bad}");
        }
        assert_eq!(matched(&"a".repeat(LENGTH_MAX + 1)), refused);
    }

    proptest! {
        #[test]
        fn no_expression_brings_it_down(expression in ".{0,40}", classes in "[a-z\\\\(){}|*+?.\\[\\]^QE0-9]{0,40}") {
            let _ = matched(&expression);
            let _ = matched(&classes);
        }
    }
}
