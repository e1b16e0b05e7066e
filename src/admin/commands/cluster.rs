//! clusterList: every member of every broker group, and how it is.

use std::{collections::BTreeMap, fmt, time::Duration};

use clap::Args;
use serde::Serialize;

use super::{Session, each};
use crate::{
    admin::{
        cli::trimmed,
        client::{groups_of, leader_of},
        error::Error,
    },
    clock,
    protocol::bodies::ClusterInfo,
};

/// Flags of clusterList.
#[derive(Debug, Args)]
pub(in crate::admin) struct ClusterList {
    /// messages in and out, today and yesterday, instead
    #[arg(short = 'm', long = "moreStats")]
    more: bool,
    /// again and again, every so many seconds
    #[arg(short, long, value_parser = clap::value_parser!(u64).range(1..))]
    interval: Option<u64>,
    /// only this cluster
    #[arg(short, long = "clusterName", value_parser = trimmed)]
    cluster: Option<String>,
}

/// Lists the members of all broker groups.
pub(in crate::admin) async fn list(
    session: &mut Session<'_>,
    args: &ClusterList,
) -> Result<(), Error> {
    loop {
        let members = ask_members(session, args.cluster.as_deref()).await?;
        if args.more {
            session.out.show(&Totals(members.into_iter().map(Total::of).collect()))?;
        } else {
            let now_ms = clock::wall_ms();
            let rows = members.into_iter().map(|member| Row::of(member, now_ms)).collect();
            session.out.show(&Rows(rows))?;
        }
        let Some(seconds) = args.interval else { return Ok(()) };
        session.out.say("\n")?;
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
}

/// A member of a broker group, and its figures.
#[derive(Debug, Clone, Default)]
struct Member {
    cluster: String,
    broker_name: String,
    id: u64,
    address: String,
    /// `None`: it did not answer.
    figures: Option<BTreeMap<String, String>>,
}

async fn ask_members(
    session: &mut Session<'_>,
    cluster: Option<&str>,
) -> Result<Vec<Member>, Error> {
    let info = session.admin.cluster_info().await?;
    let members = members(&info, cluster)?;
    for group in info.broker_addr_table.values() {
        let shown = cluster.is_none_or(|cluster| cluster == group.cluster);
        if let (true, Err(error)) = (shown, leader_of(group)) {
            session.out.remark(&error);
        }
    }
    let admin = &session.admin;
    let asked = each(members, |member| async move {
        let figures = admin.runtime_info(&member.address).await;
        (member, figures)
    })
    .await;
    let heard = asked.into_iter().map(|(member, figures)| match figures {
        Ok(figures) => Member { figures: Some(figures), ..member },
        Err(error) => {
            session.out.fail(&error);
            member
        }
    });
    Ok(heard.collect())
}

/// All members of `cluster`, or of all clusters, by name and id.
fn members(info: &ClusterInfo, cluster: Option<&str>) -> Result<Vec<Member>, Error> {
    if let Some(cluster) = cluster {
        groups_of(info, cluster)?;
    }
    let mut members = Vec::new();
    for (name, groups) in &info.cluster_addr_table {
        if cluster.is_some_and(|wanted| wanted != name) {
            continue;
        }
        for group in groups.iter().filter_map(|group| info.broker_addr_table.get(group)) {
            members.extend(group.broker_addrs.iter().map(|(id, address)| Member {
                cluster: name.clone(),
                broker_name: group.broker_name.clone(),
                id: *id,
                address: address.clone(),
                figures: None,
            }));
        }
    }
    if members.is_empty() {
        let text = "no broker has registered with the name server: brokers do so when they start \
                    (namesrvAddr in their configuration), and again every few seconds";
        return Err(Error::Unable(text.to_owned()));
    }
    Ok(members)
}

#[derive(Serialize)]
#[serde(transparent)]
struct Rows(Vec<Row>);

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    cluster_name: String,
    broker_name: String,
    broker_id: u64,
    broker_addr: String,
    answered: bool,
    version: String,
    in_tps: f64,
    send_queue: Load,
    out_tps: f64,
    pull_queue: Load,
    ack_queue: Load,
    timer: Timer,
    page_cache_lock_time_ms: Option<i64>,
    /// How far back messages go.
    hours: f64,
    /// Part of the disk that is in use.
    space: f64,
    activated: bool,
}

/// Requests that wait.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Load {
    size: Option<i64>,
    head_wait_ms: Option<i64>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Timer {
    read_behind_s: i64,
    offset_behind: i64,
    congested: i64,
    enqueue_tps: f64,
    dequeue_tps: f64,
}

impl Row {
    fn of(member: Member, now_ms: i64) -> Self {
        let row = Self {
            cluster_name: member.cluster,
            broker_name: member.broker_name,
            broker_id: member.id,
            broker_addr: member.address,
            ..Self::default()
        };
        let Some(figures) = member.figures else { return row };
        let figures = Figures(&figures);
        Self {
            answered: true,
            version: figures.text("brokerVersionDesc").to_owned(),
            in_tps: figures.first_rate("putTps"),
            send_queue: figures.load("send"),
            out_tps: figures.first_rate("getTransferredTps"),
            pull_queue: figures.load("pull"),
            ack_queue: figures.load("ack"),
            timer: Timer {
                read_behind_s: figures.integer("timerReadBehind").unwrap_or(0),
                offset_behind: figures.integer("timerOffsetBehind").unwrap_or(0),
                congested: figures.integer("timerCongestNum").unwrap_or(0),
                enqueue_tps: figures.first_rate("timerEnqueueTps"),
                dequeue_tps: figures.first_rate("timerDequeueTps"),
            },
            page_cache_lock_time_ms: figures.integer("pageCacheLockTimeMills"),
            hours: hours(figures.integer("earliestMessageTimeStamp"), now_ms),
            space: figures.first_rate("commitLogDiskRatio"),
            activated: figures.text("brokerActive").eq_ignore_ascii_case("true"),
            ..row
        }
    }
}

/// Hours since the earliest message; 0 without one, where mqadmin shows half a million.
fn hours(earliest_ms: Option<i64>, now_ms: i64) -> f64 {
    let ms = earliest_ms.filter(|ms| *ms > 0).map_or(0, |ms| now_ms.saturating_sub(ms));
    Duration::from_millis(u64::try_from(ms).unwrap_or(0)).as_secs_f64() / 3600.0
}

/// Figures of a broker, read without trust.
struct Figures<'a>(&'a BTreeMap<String, String>);

impl Figures<'_> {
    fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    fn integer(&self, name: &str) -> Option<i64> {
        self.text(name).trim().parse().ok()
    }

    /// The first of several numbers: that of the last ten seconds.
    fn first_rate(&self, name: &str) -> f64 {
        let first = self.text(name).split_whitespace().next();
        let rate: Option<f64> = first.and_then(|text| text.parse().ok());
        rate.filter(|rate| rate.is_finite()).unwrap_or(0.0)
    }

    fn load(&self, pool: &str) -> Load {
        Load {
            size: self.integer(&format!("{pool}ThreadPoolQueueSize")),
            head_wait_ms: self.integer(&format!("{pool}ThreadPoolQueueHeadWaitTimeMills")),
        }
    }
}

/// The number, or what stands for none.
fn or(number: Option<i64>, none: &str) -> String {
    number.map_or_else(|| none.to_owned(), |number| number.to_string())
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<22}  {:<22}  {:<4}  {:<22} {:<16}  {:>16}  {:>30}  {:<22}  {:<11}  {:<12}  {:<8}  \
             {:<10}",
            "#Cluster Name",
            "#Broker Name",
            "#BID",
            "#Addr",
            "#Version",
            "#InTPS(LOAD)",
            "#OutTPS(LOAD)",
            "#Timer(Progress)",
            "#PCWait(ms)",
            "#Hour",
            "#SPACE",
            "#ACTIVATED"
        )?;
        self.0.iter().try_for_each(|row| row.fmt(f))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (send, pull, ack) = (&self.send_queue, &self.pull_queue, &self.ack_queue);
        let none_of_ack = if self.answered { "N" } else { "" };
        let input =
            format!("{:9.2}({},{}ms)", self.in_tps, or(send.size, ""), or(send.head_wait_ms, ""));
        let output = format!(
            "{:9.2}({},{}ms|{},{}ms)",
            self.out_tps,
            or(pull.size, ""),
            or(pull.head_wait_ms, ""),
            or(ack.size, none_of_ack),
            or(ack.head_wait_ms, none_of_ack)
        );
        let timer = &self.timer;
        #[allow(clippy::cast_precision_loss)] // one decimal of ten thousands is shown
        let ten_thousands = timer.congested as f64 / 10_000.0;
        let timer = format!(
            "{}-{}({ten_thousands:.1}w, {:.1}, {:.1})",
            timer.read_behind_s, timer.offset_behind, timer.enqueue_tps, timer.dequeue_tps
        );
        writeln!(
            f,
            "{:<22}  {:<22}  {:<4}  {:<22} {:<16}  {input:>16}  {output:>30}  {timer:<22}  {:>11}  \
             {:<12}  {:<8}  {:>10}",
            self.cluster_name,
            self.broker_name,
            self.broker_id,
            self.broker_addr,
            self.version,
            or(self.page_cache_lock_time_ms, ""),
            format!("{:.2}", self.hours),
            format!("{:.4}", self.space),
            self.activated
        )
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Totals(Vec<Total>);

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Total {
    cluster_name: String,
    broker_name: String,
    broker_addr: String,
    answered: bool,
    in_yesterday: i64,
    out_yesterday: i64,
    in_today: i64,
    out_today: i64,
}

impl Total {
    fn of(member: Member) -> Self {
        let answered = member.figures.is_some();
        let figures = member.figures.unwrap_or_default();
        let figures = Figures(&figures);
        let between = |from: &str, to: &str| {
            let of = |name: &str| figures.integer(name).unwrap_or(0);
            of(to).saturating_sub(of(from))
        };
        Self {
            cluster_name: member.cluster,
            broker_name: member.broker_name,
            broker_addr: member.address,
            answered,
            in_yesterday: between("msgPutTotalYesterdayMorning", "msgPutTotalTodayMorning"),
            out_yesterday: between("msgGetTotalYesterdayMorning", "msgGetTotalTodayMorning"),
            in_today: between("msgPutTotalTodayMorning", "msgPutTotalTodayNow"),
            out_today: between("msgGetTotalTodayMorning", "msgGetTotalTodayNow"),
        }
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<16}  {:<32} {:>14} {:>14} {:>14} {:>14}",
            "#Cluster Name",
            "#Broker Name",
            "#InTotalYest",
            "#OutTotalYest",
            "#InTotalToday",
            "#OutTotalToday"
        )?;
        for row in &self.0 {
            writeln!(
                f,
                "{:<16}  {:<32} {:>14} {:>14} {:>14} {:>14}",
                row.cluster_name,
                row.broker_name,
                row.in_yesterday,
                row.out_yesterday,
                row.in_today,
                row.out_today
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::golden;
    use crate::protocol::bodies::{self, KVTable};

    const NOW_MS: i64 = 1_795_230_700_000;

    fn member(id: u64, figures: &[(&str, &str)]) -> Member {
        Member {
            cluster: "RaftCluster".to_owned(),
            broker_name: "RaftNode00".to_owned(),
            id,
            address: "127.0.0.1:30921".to_owned(),
            figures: Some(figures.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()),
        }
    }

    #[test]
    fn rows_are_what_mqadmin_prints() {
        let earliest = (NOW_MS - 120_000).to_string();
        let row = Row::of(
            member(
                0,
                &[
                    ("brokerVersionDesc", "V5_5_0"),
                    ("brokerActive", "true"),
                    ("putTps", "12.345 3.0 "),
                    ("getTransferredTps", "7.0 3.0 1.0"),
                    ("sendThreadPoolQueueSize", "0"),
                    ("sendThreadPoolQueueHeadWaitTimeMills", "0"),
                    ("pullThreadPoolQueueSize", "0"),
                    ("pullThreadPoolQueueHeadWaitTimeMills", "0"),
                    ("ackThreadPoolQueueSize", "0"),
                    ("ackThreadPoolQueueHeadWaitTimeMills", "0"),
                    ("pageCacheLockTimeMills", "0"),
                    ("earliestMessageTimeStamp", &earliest),
                    ("commitLogDiskRatio", "0.24"),
                    ("timerReadBehind", "3"),
                ],
            ),
            NOW_MS,
        );
        let want = "\
#Cluster Name           #Broker Name            #BID  #Addr                  #Version              #InTPS(LOAD)                   #OutTPS(LOAD)  #Timer(Progress)        #PCWait(ms)  #Hour         #SPACE    #ACTIVATED
RaftCluster             RaftNode00              0     127.0.0.1:30921        V5_5_0                12.35(0,0ms)               7.00(0,0ms|0,0ms)  3-0(0.0w, 0.0, 0.0)               0  0.03          0.2400          true
";
        assert_eq!(Rows(vec![row]).to_string(), want);
    }

    #[test]
    fn a_member_that_does_not_answer_has_an_empty_row() {
        let silent = Member { figures: None, ..member(1, &[]) };
        let row = Row::of(silent, NOW_MS);
        let want = "RaftCluster             RaftNode00              1     127.0.0.1:30921                                 0.00(,ms)                   0.00(,ms|,ms)  0-0(0.0w, 0.0, 0.0)                  0.00          0.0000         false\n";
        assert_eq!(row.to_string(), want);
        let json = serde_json::to_value(&row).unwrap();
        assert_eq!(json["answered"], false);
    }

    #[test]
    fn an_old_broker_has_no_ack_queue_and_odd_figures_are_nought() {
        let figures = [
            ("putTps", "NaN 1.0"),
            ("earliestMessageTimeStamp", "-1"),
            ("commitLogDiskRatio", "many"),
        ];
        let row = Row::of(member(0, &figures), NOW_MS);
        assert!(row.to_string().contains("0.00(,ms|N,Nms)"), "{row}");
        assert_eq!((row.in_tps, row.hours, row.space), (0.0, 0.0, 0.0));
    }

    #[test]
    fn what_java_answers_is_understood() {
        // The second one is of a slave.
        for (name, active) in [("admin-runtime-info", true), ("admin-runtime-info-mqadmin", false)]
        {
            let table: KVTable = bodies::decode(&golden::answer(name).body).unwrap();
            let row = Row::of(Member { figures: Some(table.table), ..member(0, &[]) }, NOW_MS);
            assert_eq!((row.version.as_str(), row.activated), ("V5_5_0", active), "{name}");
            assert_eq!(row.ack_queue.size, Some(0), "{name}");
        }
        let info = bodies::decode(&golden::answer("namesrv-cluster-info").body).unwrap();
        let members = members(&info, None).unwrap();
        let ids: Vec<u64> = members.iter().map(|member| member.id).collect();
        assert!(!ids.is_empty() && ids[0] == 0, "{ids:?}");
        assert!(super::members(&info, Some("nope")).is_err());
        assert!(super::members(&ClusterInfo::default(), None).is_err());
    }

    #[test]
    fn totals_are_differences_of_counters() {
        let total = Total::of(member(
            0,
            &[
                ("msgPutTotalYesterdayMorning", "10"),
                ("msgPutTotalTodayMorning", "15"),
                ("msgPutTotalTodayNow", "18"),
                ("msgGetTotalTodayNow", "2"),
            ],
        ));
        let want = "\
#Cluster Name     #Broker Name                       #InTotalYest  #OutTotalYest  #InTotalToday #OutTotalToday
RaftCluster       RaftNode00                                    5              0              3              2
";
        assert_eq!(Totals(vec![total]).to_string(), want);
    }
}
