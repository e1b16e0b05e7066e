//! queryCq: units of a ConsumeQueue.

use std::fmt;

use clap::Args;
use serde::Serialize;

use crate::{
    admin::{cli::trimmed, commands::Session, error::Error, fastjson},
    protocol::{
        bodies::{ConsumeQueueBody, ConsumeQueueUnit},
        headers::query::QueryConsumeQueue,
    },
};

/// Flags of queryCq.
#[derive(Debug, Args)]
pub(in crate::admin) struct QueryCq {
    /// name of the topic
    #[arg(short, long, value_parser = trimmed)]
    topic: String,
    /// queue of the topic
    #[arg(short, long)]
    queue: i32,
    /// first unit
    #[arg(short, long)]
    index: i64,
    /// units, default 10
    #[arg(short, long, value_parser = clap::value_parser!(i32).range(1..))]
    count: Option<i32>,
    /// the broker, host:port; without it: the first one that has the topic
    #[arg(short, long, value_parser = trimmed)]
    broker: Option<String>,
    /// consumer group whose filter is applied
    #[arg(short = 'g', long = "consumer", value_parser = trimmed)]
    group: Option<String>,
}

/// Shows units of a ConsumeQueue.
pub(in crate::admin) async fn consume_queue(
    session: &mut Session<'_>,
    args: &QueryCq,
) -> Result<(), Error> {
    let broker = match &args.broker {
        Some(broker) => broker.clone(),
        None => {
            let route = session.admin.route(&args.topic).await?;
            let mut members = route.broker_datas.iter().flat_map(|b| b.broker_addrs.values());
            let nobody = || Error::Unable(format!("no live broker has topic {}", args.topic));
            members.next().cloned().ok_or_else(nobody)?
        }
    };
    let header = QueryConsumeQueue {
        topic: Some(args.topic.clone()),
        queue_id: args.queue,
        index: args.index,
        count: args.count.unwrap_or(10),
        consumer_group: args.group.clone(),
    };
    let body = session.admin.consume_queue(&broker, &header).await?;
    session.out.show(&Units { from: args.index, body })
}

#[derive(Serialize)]
struct Units {
    from: i64,
    #[serde(flatten)]
    body: ConsumeQueueBody,
}

const LINE: &str = "======================================";

impl fmt::Display for Units {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = &self.body;
        if let Some(subscription) = &body.subscription_data {
            writeln!(f, "Subscription data: \n{}\n{LINE}", fastjson::pretty(subscription))?;
        }
        if let Some(filter) = &body.filter_data {
            writeln!(f, "Filter data: \n{filter}\n{LINE}")?;
        }
        let (max, min) = (body.max_queue_index, body.min_queue_index);
        writeln!(f, "Queue data: \nmax: {max}, min: {min}\n{LINE}")?;
        let units = body.queue_data.iter().flatten();
        for (at, unit) in (self.from..).zip(units) {
            writeln!(f, "idx: {at}\n{}\n{LINE}", UnitText(unit))?;
        }
        Ok(())
    }
}

/// `ConsumeQueueData.toString()`.
struct UnitText<'a>(&'a ConsumeQueueUnit);

impl fmt::Display for UnitText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = self.0;
        let or_null = |text: &Option<String>| text.clone().unwrap_or_else(|| "null".to_owned());
        write!(
            f,
            "ConsumeQueueData{{physicOffset={}, physicSize={}, tagsCode={}, \
             extendDataJson='{}', bitMap='{}', eval={}, msg='{}'}}",
            unit.physic_offset,
            unit.physic_size,
            unit.tags_code,
            or_null(&unit.extend_data_json),
            or_null(&unit.bit_map),
            unit.eval,
            or_null(&unit.msg)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_printed_as_mqadmin_does() {
        let unit = ConsumeQueueUnit { physic_offset: 969, physic_size: 243, ..Default::default() };
        let body = ConsumeQueueBody {
            max_queue_index: 1,
            queue_data: Some(vec![unit]),
            ..ConsumeQueueBody::default()
        };
        let want = "Queue data: \nmax: 1, min: 0\n======================================\nidx: 0\n\
            ConsumeQueueData{physicOffset=969, physicSize=243, tagsCode=0, extendDataJson='null', \
            bitMap='null', eval=false, msg='null'}\n======================================\n";
        assert_eq!(Units { from: 0, body }.to_string(), want);
    }
}
