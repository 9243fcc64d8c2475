//! What messages are filled with: prose, records and tool definitions that look like those of real
//! servers, made once and cut from then on.

use super::random::Random;

const WORDS: &str = "the of and to in a is that for it as was with be by on not he his but at are this have from \
    or had an they which one you were her all she there would their we him been has when who will more no if out \
    so said what up its about into than them can only other new some could time these two may then do first any my \
    now such like our over man me even most made after also did many before must through back years where much your \
    way well down should because each just those people state good very make world still own see men work long here \
    get both between life being under never day same another know while last might us great old year off come since \
    against go came right used take three revenue quarter account invoice balance customer ticket deploy commit \
    branch merge review pipeline latency error warning request response server client cluster namespace container \
    index schema column table query result record document paragraph section summary analysis forecast market price \
    volume exchange portfolio position risk exposure limit policy approval owner team channel message thread";

const VERBS: &[&str] = &[
    "get", "list", "search", "create", "update", "delete", "read", "write", "run", "fetch",
];
const NOUNS: &[&str] = &[
    "issue", "file", "page", "record", "quote", "order", "invoice", "ticket", "branch", "commit", "calendar",
    "event", "message", "channel", "dataset", "query", "report", "metric", "alert", "contact",
];

/// See the module.
#[derive(Debug)]
pub struct Text {
    /// Bytes without meaning, as ciphertext has them.
    noise: Vec<u8>,
    /// Inside of a JSON string, and where it may be cut.
    prose: (Vec<u8>, Vec<u32>),
    /// JSON records inside of a JSON string.
    quoted: (Vec<u8>, Vec<u32>),
    rows: Vec<String>,
    tools: Vec<String>,
    names: Vec<String>,
}

const POOL: usize = 1 << 20;

impl Text {
    /// Fills the pools.
    pub fn new(random: &mut Random) -> Self {
        let mut noise = Vec::with_capacity(POOL);
        while noise.len() < POOL {
            noise.extend_from_slice(&random.bits().to_le_bytes());
        }
        let words: Vec<&str> = WORDS.split_whitespace().collect();
        let prose = pool(|out| {
            out.extend_from_slice(random.pick(&words).as_bytes());
            out.extend_from_slice(match random.range(0, 60) {
                0 => ".\\n\\n".as_bytes(),
                1 => " \\\"quoted\\\" ".as_bytes(),
                2 => " – ".as_bytes(),
                3 => ", überprüft ".as_bytes(),
                4 => "\\n- ".as_bytes(),
                5..8 => ". ".as_bytes(),
                8..12 => ", ".as_bytes(),
                _ => b" ",
            });
        });
        let quoted = pool(|out| {
            let record = row(random, &words).replace('\\', "\\\\").replace('"', "\\\"");
            out.extend_from_slice(record.as_bytes());
            out.extend_from_slice(b",\\n");
        });
        let rows = (0..1024).map(|_| row(random, &words)).collect();
        let mut names = Vec::new();
        for noun in NOUNS {
            names.extend(VERBS.iter().map(|verb| format!("{verb}_{noun}")));
        }
        let tools = names.iter().map(|name| tool(name, random, &words)).collect();
        Self {
            noise,
            prose,
            quoted,
            rows,
            tools,
            names,
        }
    }

    /// Ciphertext.
    pub fn noise(&self, random: &mut Random, length: usize) -> &[u8] {
        let length = length.min(POOL);
        let start = random.index(POOL - length + 1);
        &self.noise[start..start + length]
    }

    /// About this much of the inside of a JSON string: prose or quoted records.
    pub fn string(&self, random: &mut Random, length: usize) -> &[u8] {
        let (bytes, breaks) = if random.chance(0.6) {
            &self.prose
        } else {
            &self.quoted
        };
        cut(bytes, breaks, random, length)
    }

    /// About this much prose.
    pub fn prose(&self, random: &mut Random, length: usize) -> &[u8] {
        cut(&self.prose.0, &self.prose.1, random, length)
    }

    /// Records, separated by commas, of about this length together.
    pub fn rows(&self, random: &mut Random, length: usize, out: &mut Vec<u8>) {
        let end = out.len() + length;
        let mut index = random.index(self.rows.len());
        loop {
            out.extend_from_slice(self.rows[index % self.rows.len()].as_bytes());
            if out.len() >= end {
                return;
            }
            out.push(b',');
            index += 1;
        }
    }

    /// The definitions of `count` tools from `first` on, separated by commas.
    pub fn tools(&self, first: usize, count: usize, out: &mut Vec<u8>) {
        for index in first..first + count {
            if index > first {
                out.push(b',');
            }
            out.extend_from_slice(self.tools[index % self.tools.len()].as_bytes());
        }
    }

    /// The name of a tool.
    pub fn tool(&self, index: usize) -> &str {
        &self.names[index % self.names.len()]
    }
}

/// A pool filled piece by piece, and where the pieces begin.
fn pool(mut piece: impl FnMut(&mut Vec<u8>)) -> (Vec<u8>, Vec<u32>) {
    let (mut bytes, mut breaks) = (Vec::with_capacity(POOL + 1024), Vec::new());
    while bytes.len() < POOL {
        breaks.push(bytes.len() as u32);
        piece(&mut bytes);
    }
    (bytes, breaks)
}

fn cut<'a>(bytes: &'a [u8], breaks: &[u32], random: &mut Random, length: usize) -> &'a [u8] {
    let length = length.min(bytes.len() / 2);
    let latest = breaks.partition_point(|at| (*at as usize) < bytes.len() - length - 1024);
    let start = breaks[random.index(latest)] as usize;
    let end = breaks.partition_point(|at| (*at as usize) < start + length);
    &bytes[start..breaks[end.min(breaks.len() - 1)] as usize]
}

fn row(random: &mut Random, words: &[&str]) -> String {
    let mut word = || *random.pick(words);
    let (a, b, c) = (word(), word(), word());
    format!(
        r#"{{"id":"{}","name":"{a} {b}","status":"{c}","amount":{}.{:02},"active":{},"tags":["{b}","{c}"],"updated":"2026-{:02}-{:02}T{:02}:15:30Z"}}"#,
        random.uuid(),
        random.range(0, 100_000),
        random.range(0, 100),
        random.chance(0.5),
        random.range(1, 13),
        random.range(1, 29),
        random.range(0, 24),
    )
}

fn tool(name: &str, random: &mut Random, words: &[&str]) -> String {
    let sentence = |random: &mut Random, count: u64| {
        let some: Vec<&str> = (0..count).map(|_| *random.pick(words)).collect();
        some.join(" ")
    };
    let mut properties = String::new();
    let mut required = String::new();
    for index in 0..random.range(1, 6) {
        let separator = if index == 0 { "" } else { "," };
        let key = format!("{}_{index}", random.pick(words));
        let about = sentence(random, 9);
        properties += &match random.range(0, 4) {
            0 => format!(
                r#"{separator}"{key}":{{"type":"integer","description":"{about}","minimum":0,"maximum":1000}}"#
            ),
            1 => format!(
                r#"{separator}"{key}":{{"type":"array","items":{{"type":"string"}},"description":"{about}"}}"#
            ),
            2 => format!(
                r#"{separator}"{key}":{{"type":"string","enum":["open","closed","all"],"description":"{about}"}}"#
            ),
            _ => format!(r#"{separator}"{key}":{{"type":"string","description":"{about}"}}"#),
        };
        if index < 2 {
            required += &format!(r#"{separator}"{key}""#);
        }
    }
    let length = random.range(12, 45);
    format!(
        r#"{{"name":"{name}","title":"{}","description":"{}","inputSchema":{{"type":"object","properties":{{{properties}}},"required":[{required}],"additionalProperties":false,"$schema":"http://json-schema.org/draft-07/schema#"}},"annotations":{{"readOnlyHint":{},"openWorldHint":false}}}}"#,
        sentence(random, 3),
        sentence(random, length),
        random.chance(0.5),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_json_wherever_they_are_cut() {
        let mut random = Random::new(1);
        let text = Text::new(&mut random);
        for length in [0, 1, 30, 500, 9_000, 200_000] {
            let mut json = b"[\"".to_vec();
            json.extend_from_slice(text.string(&mut random, length));
            json.extend_from_slice(b"\",\"");
            json.extend_from_slice(text.prose(&mut random, length));
            json.extend_from_slice(b"\",");
            text.rows(&mut random, length, &mut json);
            json.push(b',');
            text.tools(random.index(300), 5, &mut json);
            json.push(b']');
            serde_json::from_slice::<serde_json::Value>(&json).expect("JSON");
            assert!(json.len() >= 3 * length);
        }
    }
}
