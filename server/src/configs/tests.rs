//! The tables agree with themselves, with Apache Kafka 4.3.0 and with `docs/configs.md`.
//!
//! The `.tsv` files beside this one were extracted from Kafka's own definitions and compared with
//! what a started Kafka 4.3.0 broker answers to DescribeConfigs.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::protocol::StrBytes;

use super::{
    Accept, Ask, BrokerConfigs, BrokerValues, Compression, ConfigDef, Durability, Invalid, Kind,
    Row, Source, Standing, TimestampType, TopicSettings, Valid, broker_config, broker_configs,
    describe_broker, describe_every_broker, describe_topic, is_dynamic, topic_config,
    topic_configs, topic_policies, validate_topic_config, validate_topic_configs,
};
use crate::groups::DYNAMIC;

const KAFKA_TOPIC: &str = include_str!("kafka-4.3-topic-defaults.tsv");
const KAFKA_BROKER: &str = include_str!("kafka-4.3-broker-defaults.tsv");
const DOCS: &str = include_str!("../../../docs/configs.md");

/// Kafka's default would be untrue here: no JMX, no Java classes, no such groups.
const BROKER_DIFFERS: [&str; 8] = [
    "group.consumer.assignment.interval.ms",
    "group.coordinator.rebalance.protocols",
    "log.dir",
    "metric.reporters",
    "principal.builder.class",
    "remote.log.metadata.manager.class.name",
    "sasl.oauthbearer.jwt.retriever.class",
    "sasl.oauthbearer.jwt.validator.class",
];

/// Kafka knows the first two, and describes them only where they are set; the others are jangbu's.
const BROKER_MORE: [&str; 4] = [
    "follower.replication.throttled.rate",
    "leader.replication.throttled.rate",
    "jangbu.draining",
    "jangbu.heal.after.ms",
];

fn fixture(text: &'static str) -> impl Iterator<Item = [&'static str; 4]> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let columns: Vec<_> = line.split('\t').collect();
        columns.try_into().expect("four columns")
    })
}

fn default_text(def: &ConfigDef) -> &'static str {
    def.default.unwrap_or("<null>")
}

fn kind_text(def: &ConfigDef) -> String {
    format!("{:?}", def.kind).to_uppercase()
}

fn map(values: &[(&str, &str)]) -> BTreeMap<String, String> {
    values.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn broker(values: &[(&str, &str)]) -> BrokerConfigs {
    let mut started = BrokerValues::default();
    for (name, value) in values {
        started.set(name, *value).unwrap();
    }
    BrokerConfigs { started, ..BrokerConfigs::default() }
}

fn row<'a>(rows: &'a [Row], name: &str) -> &'a Row {
    rows.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("no row for {name}"))
}

fn refusal(name: &str, value: &str) -> String {
    validate_topic_config(name, value).expect_err(&format!("{name}={value} was taken")).to_string()
}

#[test]
fn topic_configs_are_kafkas_with_its_kinds_defaults_and_synonyms() {
    let kafka: Vec<_> = fixture(KAFKA_TOPIC).collect();
    let own = topic_configs().iter().filter(|def| !def.name.starts_with("jangbu."));
    let ours: Vec<_> = own
        .map(|def| {
            (def.name, kind_text(def), default_text(def), def.broker_synonym.unwrap_or_default())
        })
        .collect();
    assert_eq!(kafka.len(), 33);
    let kafka: Vec<_> = kafka
        .into_iter()
        .map(|[name, kind, default, synonym]| (name, kind.to_owned(), default, synonym))
        .collect();
    assert_eq!(ours, kafka);
}

#[test]
fn broker_defaults_are_kafkas_except_where_jangbu_differs() {
    let mut differs = Vec::new();
    let mut count = 0;
    for [name, kind, default, change] in fixture(KAFKA_BROKER) {
        count += 1;
        let def = broker_config(name).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(kind_text(def), kind, "{name}");
        assert_eq!(def.read_only, change == "ro", "{name}");
        if default_text(def) != default {
            differs.push(name);
        }
    }
    assert_eq!((count, broker_configs().len()), (340, 340 + BROKER_MORE.len()));
    for name in BROKER_MORE {
        assert!(broker_config(name).is_some(), "{name}");
    }
    assert_eq!(differs, BROKER_DIFFERS);
}

#[test]
fn names_are_ordered_and_unique() {
    assert!(topic_configs().is_sorted_by(|a, b| a.name < b.name));
    assert!(broker_configs().is_sorted_by(|a, b| a.name < b.name));
    assert!(topic_policies().is_sorted_by(|a, b| a.name < b.name));
}

#[test]
fn every_default_keeps_its_own_rule_and_every_config_says_what_it_means() {
    for def in topic_configs().iter().chain(broker_configs().iter().copied()) {
        if let Some(default) = def.default {
            assert_eq!(def.check(default), Ok(()), "{}", def.name);
        }
        assert!(def.doc.ends_with('.'), "{}", def.name);
        assert_eq!(def.sensitive, def.kind == Kind::Password, "{}", def.name);
    }
    for def in topic_configs() {
        let default = def.default.unwrap();
        assert_eq!(validate_topic_config(def.name, default), Ok(()), "{}", def.name);
    }
}

#[test]
fn a_topic_config_and_its_broker_synonym_have_the_same_rule() {
    for def in topic_configs() {
        let Some(synonym) = def.broker_synonym else { continue };
        let broker = broker_config(synonym).unwrap_or_else(|| panic!("{synonym} is missing"));
        assert_eq!(broker.kind, def.kind, "{}", def.name);
        if let Some(default) = broker.default {
            assert_eq!(Some(default), def.default, "{}", def.name);
        }
    }
}

#[test]
fn every_topic_config_has_a_policy_and_is_in_the_docs_under_its_standing() {
    let names = |list: Vec<&'static str>| list.into_iter().collect::<BTreeSet<_>>();
    assert_eq!(
        names(topic_configs().iter().map(|def| def.name).collect()),
        names(topic_policies().iter().map(|policy| policy.name).collect())
    );
    for policy in topic_policies() {
        let heading = match policy.standing {
            Standing::Acts => "## They act",
            Standing::Stored => "## They are stored and reported, without effect yet",
            Standing::NoMeaning => "## They have no meaning here",
        };
        let section = DOCS.split(heading).nth(1).expect(heading);
        let section = section.split("\n## ").next().unwrap();
        let cell = format!("`{}`", policy.name);
        assert!(section.contains(&cell), "docs/configs.md: {cell} is not under {heading}");
    }
    for name in BROKER_DIFFERS.iter().chain(&BROKER_MORE) {
        assert!(DOCS.contains(&format!("`{name}`")), "docs/configs.md: {name}");
    }
}

#[test]
fn a_refused_value_gets_kafkas_words_and_the_allowed_values() {
    assert_eq!(refusal("nope", "1"), "Unknown topic config name: nope");
    let cases = [
        ("retention.ms", "abc", "Not a number of type LONG"),
        ("retention.ms", "", "Not a number of type LONG"),
        ("retention.ms", "-2", "Value must be at least -1"),
        ("max.message.bytes", "99999999999", "Not a number of type INT"),
        ("segment.bytes", "0x10", "Not a number of type INT"),
        ("segment.bytes", "13", "Value must be at least 1048576"),
        ("min.insync.replicas", "0", "Value must be at least 1"),
        ("compression.gzip.level", "0", "Value must be between 1 and 9 or equal to -1"),
        ("compression.lz4.level", "99", "no more than 17"),
        ("compression.zstd.level", "99", "no more than 22"),
        ("min.cleanable.dirty.ratio", "2", "no more than 1"),
        ("min.cleanable.dirty.ratio", "NaN", "no more than 1"),
        ("min.cleanable.dirty.ratio", "x", "Not a number of type DOUBLE"),
        ("cleanup.policy", "foo", "must be one of: compact, delete"),
        ("compression.type", "foo", "uncompressed, zstd, lz4, snappy, gzip, producer"),
        ("message.timestamp.type", "x", "must be one of: CreateTime, LogAppendTime"),
        ("preallocate", "maybe", "either true or false"),
        ("jangbu.key.index", "yes", "either true or false"),
        ("leader.replication.throttled.replicas", "0", "[partitionId]:[brokerId]"),
        ("leader.replication.throttled.replicas", "0:1,*", "[partitionId]:[brokerId]"),
    ];
    for (name, value, words) in cases {
        let message = refusal(name, value);
        assert!(message.contains(words), "{name}={value}: {message}");
        assert!(message.contains(name) && message.contains(value), "{message}");
    }
}

#[test]
fn values_outside_a_bound_are_refused_and_the_bound_is_taken() {
    for def in topic_configs() {
        let (low, high) = match def.valid {
            Valid::Range { min, max } => (Some(min), max),
            Valid::RangeOr { also, min, max } => (Some(min.min(also)), Some(max)),
            _ => (None, None),
        };
        for (bound, beyond) in
            [low.map(|low| (low, low - 1)), high.map(|high| (high, high + 1))].into_iter().flatten()
        {
            assert_eq!(def.check(&bound.to_string()), Ok(()), "{}={bound}", def.name);
            let message = def.check(&beyond.to_string()).unwrap_err().to_string();
            assert!(message.contains(&bound.to_string()), "{message}");
        }
    }
}

#[test]
fn what_jangbu_cannot_honour_is_refused_naming_what_it_can() {
    let cases = [
        ("remote.log.copy.disable", "true", "false"),
        ("remote.log.delete.on.disable", "true", "false"),
        ("remote.storage.enable", "true", "false"),
    ];
    for (name, value, allowed) in cases {
        let message = refusal(name, value);
        assert!(message.contains("Not supported by this version"), "{message}");
        assert!(message.ends_with(&format!("allowed: {allowed}")), "{message}");
    }
    let restricted = topic_policies().iter().filter(|policy| policy.accept != Accept::Any);
    let tried: BTreeSet<_> = cases.iter().map(|case| case.0).collect();
    assert_eq!(restricted.map(|policy| policy.name).collect::<BTreeSet<_>>(), tried);
}

#[test]
fn values_kafka_takes_are_taken() {
    let cases = [
        ("cleanup.policy", ""),
        ("cleanup.policy", " delete , delete "),
        ("cleanup.policy", "compact"),
        ("cleanup.policy", "compact,delete"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("jangbu.key.index", "TRUE"),
        ("segment.bytes", " 2097152 "),
        ("preallocate", " TRUE "),
        ("remote.storage.enable", "False"),
        ("retention.ms", "-1"),
        ("compression.gzip.level", "-1"),
        ("min.insync.replicas", "2"),
        ("leader.replication.throttled.replicas", "0:1,1:2"),
        ("leader.replication.throttled.replicas", "*"),
    ];
    for (name, value) in cases {
        assert_eq!(validate_topic_config(name, value), Ok(()), "{name}={value}");
    }
}

#[test]
fn a_set_of_configs_has_no_nulls_and_no_contradictions() {
    let null = validate_topic_configs([("retention.ms", None)]).unwrap_err();
    assert_eq!(null, Invalid::NullValue { name: "retention.ms".to_owned() });
    let lags = [("max.compaction.lag.ms", Some("5")), ("min.compaction.lag.ms", Some("6"))];
    let conflict = validate_topic_configs(lags).unwrap_err().to_string();
    assert!(conflict.contains("min.compaction.lag.ms (6) > max.compaction.lag.ms (5)"));
    assert_eq!(validate_topic_configs([("retention.ms", Some("5"))]), Ok(()));
}

#[test]
fn the_topics_value_hides_the_brokers_which_hides_the_default() {
    let ask = Ask { synonyms: true, ..Ask::default() };
    let broker = broker(&[("message.max.bytes", "2000"), ("log.retention.ms", "7")]);
    let rows = describe_topic(&map(&[("max.message.bytes", "1000")]), &broker, &ask);
    let places = |name| {
        let row = row(&rows, name);
        let synonyms = row.synonyms.iter().map(|s| (s.name, s.value.as_deref().unwrap(), s.source));
        (row.value.as_deref(), row.source, synonyms.collect::<Vec<_>>())
    };
    let expected = vec![
        ("max.message.bytes", "1000", Source::Topic),
        ("message.max.bytes", "2000", Source::StaticBroker),
        ("message.max.bytes", "1048588", Source::Default),
    ];
    assert_eq!(places("max.message.bytes"), (Some("1000"), Source::Topic, expected));
    let expected = vec![("log.retention.ms", "7", Source::StaticBroker)];
    assert_eq!(places("retention.ms"), (Some("7"), Source::StaticBroker, expected));
    let expected = vec![("log.segment.bytes", "1073741824", Source::Default)];
    assert_eq!(places("segment.bytes"), (Some("1073741824"), Source::Default, expected));
    assert_eq!(places("segment.ms"), (Some("604800000"), Source::Default, vec![]));
    assert!(row(&rows, "segment.ms").is_default() && !row(&rows, "retention.ms").is_default());
}

#[test]
fn values_set_at_run_time_hide_those_of_the_start() {
    let ask = Ask { synonyms: true, ..Ask::default() };
    let broker = BrokerConfigs {
        own: map(&[("log.retention.ms", "1")]),
        every: map(&[("log.retention.ms", "2"), ("message.max.bytes", "3")]),
        ..broker(&[("log.retention.ms", "4"), ("message.max.bytes", "5")])
    };
    let places = |rows: &[Row], name: &str| {
        let row = row(rows, name);
        let of = |s: &super::Synonym| (s.value.clone().unwrap(), s.source);
        assert_eq!((row.value.clone().unwrap(), row.source), of(&row.synonyms[0]));
        row.synonyms.iter().map(|s| format!("{}={}", of(s).0, s.source.code())).collect::<Vec<_>>()
    };
    let rows = describe_broker(&broker, &ask);
    assert_eq!(places(&rows, "log.retention.ms"), ["1=2", "2=3", "4=4"]);
    assert_eq!(places(&rows, "message.max.bytes"), ["3=3", "5=4", "1048588=5"]);
    let rows = describe_topic(&map(&[("retention.ms", "0")]), &broker, &ask);
    assert_eq!(places(&rows, "retention.ms"), ["0=1", "1=2", "2=3", "4=4"]);
    assert_eq!(places(&rows, "max.message.bytes"), ["3=3", "5=4", "1048588=5"]);
    let rows = describe_every_broker(&broker, &ask);
    assert_eq!(
        rows.iter().map(|row| row.name).collect::<Vec<_>>(),
        ["log.retention.ms", "message.max.bytes"]
    );
    assert_eq!(places(&rows, "log.retention.ms"), ["2=3"]);
    let settings = TopicSettings::new(&map(&[]), &broker).unwrap();
    assert_eq!((settings.retention_ms, settings.max_message_bytes), (1, 3));
}

#[test]
fn what_a_running_broker_takes_kafka_takes_too_but_for_groups() {
    let dynamic = broker_configs().iter().copied().filter(|def| is_dynamic(def.name));
    let (groups, others): (Vec<&ConfigDef>, Vec<&ConfigDef>) =
        dynamic.partition(|def| DYNAMIC.contains(&def.name));
    assert!(others.iter().all(|def| !def.read_only));
    assert_eq!((groups.len(), others.len()), (DYNAMIC.len(), 33));
}

#[test]
fn a_broker_reports_what_it_was_started_with_and_hides_secrets() {
    let ask = Ask { synonyms: true, ..Ask::default() };
    let broker = broker(&[("node.id", "1"), ("broker.id", "1"), ("ssl.key.password", "secret")]);
    let rows = describe_broker(&broker, &ask);
    assert_eq!(rows.len(), 344);
    let changeable = rows.iter().filter(|row| !row.read_only).map(|row| row.name);
    let mut taken: BTreeSet<_> =
        topic_configs().iter().filter_map(|def| def.broker_synonym).collect();
    taken.extend(BROKER_MORE.iter().filter(|name| **name != "jangbu.heal.after.ms"));
    taken.extend(["log.cleaner.backoff.ms", "log.cleaner.io.max.bytes.per.second"]);
    taken.extend(DYNAMIC);
    assert_eq!(changeable.collect::<BTreeSet<_>>(), taken);
    assert_eq!(row(&rows, "node.id").source, Source::StaticBroker);
    assert_eq!(row(&rows, "broker.id").synonyms.len(), 2);
    assert_eq!(row(&rows, "broker.rack").value, None);
    let password = row(&rows, "ssl.key.password");
    assert!(password.sensitive && password.value.is_none());
    assert!(password.synonyms.iter().all(|synonym| synonym.value.is_none()));
}

#[test]
fn keys_synonyms_and_documentation_come_only_when_asked_for() {
    let keys = ["retention.ms", "nope"].map(StrBytes::from_static_str);
    let ask = Ask { keys: Some(&keys), ..Ask::default() };
    let rows = describe_topic(&map(&[]), &BrokerConfigs::default(), &ask);
    assert_eq!(rows.len(), 1);
    assert!(rows[0].synonyms.is_empty() && rows[0].documentation.is_none());
    let ask = Ask { documentation: true, ..ask };
    let rows = describe_topic(&map(&[]), &BrokerConfigs::default(), &ask);
    assert_eq!(rows[0].documentation, topic_config("retention.ms").map(|def| def.doc));
    let all = Ask { keys: Some(&[]), ..Ask::default() };
    assert_eq!(describe_topic(&map(&[]), &BrokerConfigs::default(), &all).len(), 35);
}

#[test]
fn a_row_becomes_kafkas_numbers_on_the_wire() {
    let ask = Ask { synonyms: true, documentation: true, keys: None };
    let rows = describe_topic(&map(&[("retention.ms", "5")]), &BrokerConfigs::default(), &ask);
    let wire = DescribeConfigsResourceResult::from(row(&rows, "retention.ms").clone());
    assert_eq!((&*wire.name, wire.value.as_deref()), ("retention.ms", Some("5")));
    assert_eq!((wire.config_type, wire.config_source, wire.synonyms[0].source), (5, 1, 1));
    assert!(!wire.read_only && !wire.is_sensitive && wire.documentation.is_some());
    let wire = DescribeConfigsResourceResult::from(row(&rows, "cleanup.policy").clone());
    assert_eq!((wire.config_type, wire.config_source, wire.synonyms[0].source), (7, 5, 5));
}

#[test]
fn kinds_and_sources_have_kafkas_numbers() {
    let sources = [
        Source::Topic,
        Source::DynamicBroker,
        Source::DynamicDefault,
        Source::StaticBroker,
        Source::Default,
    ];
    assert_eq!(sources.map(Source::code), [1, 2, 3, 4, 5]);
    let numbers = [Kind::Boolean, Kind::String, Kind::Int, Kind::Short, Kind::Long];
    assert_eq!(numbers.map(Kind::code), [1, 2, 3, 4, 5]);
    let others = [Kind::Double, Kind::List, Kind::Class, Kind::Password];
    assert_eq!(others.map(Kind::code), [6, 7, 8, 9]);
}

#[test]
fn only_known_and_valid_values_start_a_broker() {
    let mut broker = BrokerValues::default();
    assert!(matches!(broker.set("nope", "1"), Err(Invalid::UnknownBrokerConfig { .. })));
    assert!(matches!(broker.set("num.partitions", "0"), Err(Invalid::Value { .. })));
    assert_eq!(broker.get("num.partitions"), None);
    broker.set("num.partitions", "3").unwrap();
    assert_eq!(broker.get("num.partitions"), Some("3"));
}

#[test]
fn settings_are_kafkas_defaults_until_the_broker_or_the_topic_says_otherwise() {
    let defaults = TopicSettings::new(&map(&[]), &BrokerConfigs::default()).unwrap();
    let kafkas = TopicSettings {
        deletes_old_records: true,
        compact: false,
        min_compaction_lag_ms: 0,
        max_compaction_lag_ms: i64::MAX,
        min_cleanable_dirty_ratio: 0.5,
        delete_retention_ms: 86_400_000,
        key_index: false,
        retention_ms: 604_800_000,
        retention_bytes: -1,
        max_message_bytes: 1_048_588,
        min_insync_replicas: 1,
        timestamp_type: TimestampType::CreateTime,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: 3_600_000,
        compression: Compression::Producer,
        durability: Durability::Strict,
    };
    assert_eq!(defaults, kafkas);
    let topic = map(&[("max.message.bytes", " 10 "), ("cleanup.policy", "")]);
    let broker = broker(&[("log.retention.ms", "9"), ("message.max.bytes", "20")]);
    let set = TopicSettings::new(&topic, &broker).unwrap();
    let expected = TopicSettings {
        deletes_old_records: false,
        retention_ms: 9,
        max_message_bytes: 10,
        ..kafkas
    };
    assert_eq!(set, expected);
}

#[test]
fn a_topic_is_keyed_when_it_is_compacted_or_says_so() {
    let of = |values: &[(&str, &str)]| TopicSettings::new(&map(values), &broker(&[])).unwrap();
    let policies = |settings: TopicSettings| (settings.deletes_old_records, settings.compact);
    let cases = [
        ("delete", (true, false)),
        ("compact", (false, true)),
        (" compact , delete ", (true, true)),
        ("delete,compact", (true, true)),
        ("", (false, false)),
    ];
    for (policy, expected) in cases {
        let settings = of(&[("cleanup.policy", policy)]);
        assert_eq!((policies(settings), settings.keyed()), (expected, expected.1), "{policy}");
        assert!(of(&[("cleanup.policy", policy), ("jangbu.key.index", "True")]).keyed());
    }
    assert_eq!(topic_config("jangbu.key.index").unwrap().broker_synonym, None);
}

#[test]
fn compaction_follows_the_topic_else_the_broker() {
    let broker = broker(&[
        ("log.cleanup.policy", "compact"),
        ("log.cleaner.min.compaction.lag.ms", "1"),
        ("log.cleaner.max.compaction.lag.ms", "2"),
        ("log.cleaner.min.cleanable.ratio", "0.25"),
        ("log.cleaner.delete.retention.ms", "3"),
    ]);
    let of = |settings: TopicSettings| {
        let lags = (settings.min_compaction_lag_ms, settings.max_compaction_lag_ms);
        let ratio = settings.min_cleanable_dirty_ratio.to_string();
        (settings.compact, lags, ratio, settings.delete_retention_ms)
    };
    let inherited = TopicSettings::new(&map(&[]), &broker).unwrap();
    assert_eq!(of(inherited), (true, (1, 2), "0.25".to_owned(), 3));
    let own = map(&[
        ("cleanup.policy", "delete"),
        ("min.compaction.lag.ms", "4"),
        ("max.compaction.lag.ms", "5"),
        ("min.cleanable.dirty.ratio", " 1.0 "),
        ("delete.retention.ms", "0"),
    ]);
    let set = TopicSettings::new(&own, &broker).unwrap();
    assert_eq!(of(set), (false, (4, 5), "1".to_owned(), 0));
}

#[test]
fn only_a_topic_itself_opts_out_of_the_sync() {
    assert_eq!(topic_config("jangbu.durability").unwrap().broker_synonym, None);
    let relaxed = map(&[("jangbu.durability", "relaxed")]);
    let settings = TopicSettings::new(&relaxed, &BrokerConfigs::default()).unwrap();
    assert_eq!(settings.durability, Durability::Relaxed);
    let message = refusal("jangbu.durability", "none");
    assert!(message.ends_with("must be one of: strict, relaxed"), "{message}");
}

#[test]
fn a_codec_takes_its_own_level() {
    let levels = [("gzip", "8"), ("lz4", "4"), ("zstd", "-7")]
        .map(|(codec, level)| (format!("compression.{codec}.level"), level.to_owned()));
    let of = |codec: &str| {
        let mut topic: BTreeMap<String, String> = levels.clone().into();
        topic.insert("compression.type".to_owned(), codec.to_owned());
        TopicSettings::new(&topic, &BrokerConfigs::default()).unwrap().compression
    };
    assert_eq!(of("gzip"), Compression::Gzip { level: 8 });
    assert_eq!(of("lz4"), Compression::Lz4 { level: 4 });
    assert_eq!(of("zstd"), Compression::Zstd { level: -7 });
    assert_eq!(of("snappy"), Compression::Snappy);
    assert_eq!(of("uncompressed"), Compression::Uncompressed);
    assert_eq!(of("producer"), Compression::Producer);
}

#[test]
fn settings_of_an_unreadable_stored_value_are_an_error() {
    let topic = map(&[("retention.ms", "soon")]);
    let unreadable = TopicSettings::new(&topic, &BrokerConfigs::default());
    assert!(matches!(unreadable, Err(Invalid::Value { .. })));
}
