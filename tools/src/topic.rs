//! `jangbu topic`: create, list, describe and delete topics.

use jangbu_client::{BrokerId, Client, Config, NewTopic, Partition, Position, TopicConfig};
use serde_json::{Value, json};

use crate::cli::{Brokers, CreateArgs, TopicCommand};
use crate::output;

/// Runs one of the topic commands.
pub(crate) async fn run(command: &TopicCommand, json: bool) -> anyhow::Result<()> {
    match command {
        TopicCommand::Create(args) => create(args, json).await,
        TopicCommand::List(brokers) => list(brokers, json).await,
        TopicCommand::Sizes(brokers) => sizes(brokers, json).await,
        TopicCommand::Describe(args) => {
            describe(&connect(&args.brokers).await?, &args.name, json).await
        }
        TopicCommand::Delete(args) => {
            connect(&args.brokers).await?.delete_topic(&args.name).await?;
            say(json, &format!("deleted {}", args.name), json!({ "deleted": args.name }))
        }
    }
}

/// Connects as every client command does.
pub(crate) async fn connect(brokers: &Brokers) -> anyhow::Result<Client> {
    let config = Config { client_id: "jangbu".into(), ..Config::for_brokers(&brokers.brokers) };
    Ok(Client::connect(config).await?)
}

fn say(as_json: bool, text: &str, value: Value) -> anyhow::Result<()> {
    if as_json {
        output::json_line(&value)?
    } else {
        output::line(text)?
    }
    Ok(())
}

async fn create(args: &CreateArgs, json: bool) -> anyhow::Result<()> {
    let client = connect(&args.brokers).await?;
    let topic = NewTopic {
        name: args.name.clone(),
        partitions: args.partitions,
        replication_factor: args.replication_factor,
        configs: args.configs.clone(),
    };
    client.create_topic(&topic).await?;
    let partitions = client.topic(&args.name).await?.partitions.len();
    let text = format!("created {} with {partitions} partitions", args.name);
    say(json, &text, json!({ "created": args.name, "partitions": partitions }))
}

async fn list(brokers: &Brokers, json: bool) -> anyhow::Result<()> {
    let topics = connect(brokers).await?.list_topics().await?;
    if json {
        for topic in topics {
            output::json_line(&json!({
                "topic": topic.name,
                "partitions": topic.partitions.len(),
                "replicas": topic.partitions[0].replicas.len(),
                "internal": topic.internal,
            }))?;
        }
        return Ok(());
    }
    if topics.is_empty() {
        output::note("there are no topics yet; `jangbu topic create NAME` makes one");
        return Ok(());
    }
    let row = |topic: &jangbu_client::Topic| {
        let replicas = topic.partitions[0].replicas.len();
        vec![topic.name.clone(), topic.partitions.len().to_string(), replicas.to_string()]
    };
    let rows: Vec<_> = topics.iter().map(|topic| row(topic)).collect();
    output::table(&["TOPIC", "PARTITIONS", "REPLICAS"], &rows)?;
    Ok(())
}

async fn sizes(brokers: &Brokers, json: bool) -> anyhow::Result<()> {
    let sizes = connect(brokers).await?.topic_sizes().await?;
    if json {
        for (topic, size) in sizes {
            output::json_line(&json!({
                "topic": topic,
                "partitions": size.partitions,
                "logical_bytes": size.live_bytes,
                "disk_bytes": size.stored_bytes,
                "waiting_bytes": size.stored_bytes.saturating_sub(size.live_bytes),
            }))?;
        }
        return Ok(());
    }
    let row = |(topic, size): (&String, &jangbu_client::TopicSize)| {
        let waiting = size.stored_bytes.saturating_sub(size.live_bytes);
        let bytes = [size.live_bytes, size.stored_bytes, waiting].map(output::human_bytes);
        [vec![topic.clone(), size.partitions.to_string()], bytes.to_vec()].concat()
    };
    let rows: Vec<_> = sizes.iter().map(row).collect();
    output::table(&["TOPIC", "PARTITIONS", "LOGICAL", "ON DISK", "TO BE FREED"], &rows)?;
    Ok(())
}

/// A partition with the offsets it holds.
struct Extent<'a> {
    partition: &'a Partition,
    earliest: i64,
    end: i64,
}

async fn describe(client: &Client, name: &str, json: bool) -> anyhow::Result<()> {
    let topic = client.topic(name).await?;
    let mut extents = Vec::new();
    for partition in &topic.partitions {
        let earliest = client.offset(name, partition.number, Position::Earliest).await?;
        let end = client.offset(name, partition.number, Position::Latest).await?;
        extents.push(Extent { partition, earliest, end });
    }
    let mut configs = client.topic_configs(name).await?;
    configs.retain(|config| !config.is_default);
    if json {
        describe_json(name, &extents, &configs)
    } else {
        describe_text(name, &extents, &configs)
    }
}

fn ids(brokers: &[BrokerId]) -> Vec<i32> {
    brokers.iter().map(|broker| broker.0).collect()
}

fn describe_json(name: &str, extents: &[Extent], configs: &[TopicConfig]) -> anyhow::Result<()> {
    let partitions: Vec<Value> = extents
        .iter()
        .map(|extent| {
            json!({
                "partition": extent.partition.number,
                "leader": extent.partition.leader.map(|leader| leader.0),
                "replicas": ids(&extent.partition.replicas),
                "in_sync": ids(&extent.partition.in_sync),
                "earliest": extent.earliest,
                "end": extent.end,
            })
        })
        .collect();
    let configs: serde_json::Map<String, Value> =
        configs.iter().map(|config| (config.name.clone(), json!(config.value))).collect();
    output::json_line(&json!({ "topic": name, "partitions": partitions, "configs": configs }))?;
    Ok(())
}

fn describe_text(name: &str, extents: &[Extent], configs: &[TopicConfig]) -> anyhow::Result<()> {
    let records: i64 = extents.iter().map(|extent| extent.end - extent.earliest).sum();
    let records = output::grouped(u64::try_from(records).unwrap_or(0));
    output::line(&format!("{name}: {} partitions, {records} offsets in use", extents.len()))?;
    for config in configs {
        let value = config.value.as_deref().unwrap_or("(hidden)");
        output::line(&format!("  {} = {value}", config.name))?;
    }
    let joined = |brokers: &[BrokerId]| {
        ids(brokers).iter().map(i32::to_string).collect::<Vec<_>>().join(",")
    };
    let row = |extent: &Extent| {
        let leader = extent.partition.leader.map_or("none".into(), |leader| leader.0.to_string());
        vec![
            extent.partition.number.to_string(),
            leader,
            joined(&extent.partition.replicas),
            joined(&extent.partition.in_sync),
            extent.earliest.to_string(),
            extent.end.to_string(),
        ]
    };
    let rows: Vec<_> = extents.iter().map(row).collect();
    output::table(&["PARTITION", "LEADER", "REPLICAS", "IN SYNC", "EARLIEST", "END"], &rows)?;
    Ok(())
}
