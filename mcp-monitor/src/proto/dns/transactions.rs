//! Which answers were asked for.

use std::collections::VecDeque;

use super::{Message, Question};

/// Questions of one flow remembered; the oldest is forgotten first. Resolver libraries use a port for a
/// handful of questions, forwarders for some dozens at a time.
const MAX_QUESTIONS: usize = 64;

/// The questions asked on one flow, which is one client port and one resolver (RFC 5452 section 9.1): an
/// answer belongs to one if id and question are the same.
#[derive(Debug, Default)]
pub struct Transactions {
    asked: VecDeque<(u16, Option<Question>)>,
}

impl Transactions {
    /// Takes a query.
    pub fn query(&mut self, message: &Message) {
        if self.asked.len() >= MAX_QUESTIONS {
            self.asked.pop_front();
        }
        self.asked
            .push_back((message.id, message.questions.first().cloned()));
    }

    /// A response answers one of the queries. A repeated one does so again.
    pub fn answers(&self, message: &Message) -> bool {
        let question = message.questions.first();
        self.asked
            .iter()
            .any(|(id, asked)| *id == message.id && asked.as_ref() == question)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: u16, name: &str) -> Message {
        Message {
            id,
            response: false,
            opcode: 0,
            authoritative: false,
            truncated: false,
            rcode: 0,
            questions: vec![Question {
                name: name.into(),
                qtype: 1,
                qclass: 1,
            }],
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
            edns: false,
        }
    }

    #[test]
    fn id_and_question_must_agree() {
        let mut transactions = Transactions::default();
        transactions.query(&message(7, "mcp.example"));
        assert!(transactions.answers(&message(7, "mcp.example")));
        assert!(transactions.answers(&message(7, "mcp.example")), "again");
        assert!(!transactions.answers(&message(8, "mcp.example")));
        assert!(!transactions.answers(&message(7, "other.example")));
        for id in 100..164 {
            transactions.query(&message(id, "mcp.example"));
        }
        assert!(!transactions.answers(&message(7, "mcp.example")), "forgotten");
    }
}
