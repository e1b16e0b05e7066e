//! Client and broker versions: one number on the wire, the ordinal of a release in Java's list.

/// What we announce: RocketMQ 5.5.0.
pub const CURRENT: i32 = 513;
/// Clients from here on want route answers with quoted numeric keys.
pub const V4_9_4: i32 = 401;
/// Clients from here on have `getConsumerRunningInfo`.
pub const V3_1_8_SNAPSHOT: i32 = 62;
/// Clients from here on send `maxReconsumeTimes` with retries.
pub const V3_4_9: i32 = 121;
/// Brokers from here on register topics together with queue mappings.
pub const V5_0_0: i32 = 413;
/// Everything beyond the last release that Java knows.
pub const HIGHER: i32 = 612;

const V3_0_0_FINAL: i32 = 15;
const V3_NAMES: [&str; 16] = [
    "V3_0_0_SNAPSHOT",
    "V3_0_0_ALPHA1",
    "V3_0_0_BETA1",
    "V3_0_0_BETA2",
    "V3_0_0_BETA3",
    "V3_0_0_BETA4",
    "V3_0_0_BETA5",
    "V3_0_0_BETA6_SNAPSHOT",
    "V3_0_0_BETA6",
    "V3_0_0_BETA7_SNAPSHOT",
    "V3_0_0_BETA7",
    "V3_0_0_BETA8_SNAPSHOT",
    "V3_0_0_BETA8",
    "V3_0_0_BETA9_SNAPSHOT",
    "V3_0_0_BETA9",
    "V3_0_0_FINAL",
];

/// First ordinal, major, minor, first patch of each run of releases. Inside a run every release
/// follows its own `_SNAPSHOT`, so patches are two apart.
const RUNS: [(i32, u8, u8, u8); 12] = [
    (V3_0_0_FINAL + 1, 3, 0, 1),
    (46, 3, 1, 0),
    (66, 3, 2, 0),
    (86, 3, 3, 1),
    (104, 3, 4, 1),
    (122, 3, 5, 1),
    (140, 3, 6, 1),
    (158, 3, 7, 1),
    (176, 3, 8, 1),
    (194, 3, 9, 1),
    (212, 4, 0, 0),
    (412, 5, 0, 0),
];

/// Java's name of the release, `HIGHER_VERSION` for what it does not know.
pub fn name_of(version: i32) -> String {
    if let Some(name) = usize::try_from(version).ok().and_then(|v| V3_NAMES.get(v)) {
        return (*name).to_owned();
    }
    let run = RUNS.iter().rev().find(|(first, ..)| *first <= version);
    let Some(&(first, major, minor, patch)) = run.filter(|_| version < HIGHER) else {
        return "HIGHER_VERSION".to_owned();
    };
    let (step, snapshot) = ((version - first) / 2, (version - first) % 2 == 0);
    // From 4.0 on every minor has ten patches, so one run covers a whole major.
    let ten = i32::from(major >= 4);
    let minor = i32::from(minor) + ten * (step / 10);
    let patch = i32::from(patch) + if ten == 1 { step % 10 } else { step };
    format!("V{major}_{minor}_{patch}{}", if snapshot { "_SNAPSHOT" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_reference() {
        let rows = [
            (0, "V3_0_0_SNAPSHOT"),
            (15, "V3_0_0_FINAL"),
            (37, "V3_0_11"),
            (62, "V3_1_8_SNAPSHOT"),
            (121, "V3_4_9"),
            (213, "V4_0_0"),
            (233, "V4_1_0"),
            (317, "V4_5_2"),
            (373, "V4_8_0"),
            (401, "V4_9_4"),
            (409, "V4_9_8"),
            (412, "V5_0_0_SNAPSHOT"),
            (413, "V5_0_0"),
            (433, "V5_1_0"),
            (474, "V5_3_1_SNAPSHOT"),
            (475, "V5_3_1"),
            (479, "V5_3_3"),
            (CURRENT, "V5_5_0"),
            (611, "V5_9_9"),
            (612, "HIGHER_VERSION"),
            (i32::MAX, "HIGHER_VERSION"),
            (-1, "HIGHER_VERSION"),
        ];
        for (version, name) in rows {
            assert_eq!(name_of(version), name, "version {version}");
        }
    }
}
