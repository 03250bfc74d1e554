//! The preprocessing step: text into token ids by longest match, as sub-word tokenisers do.

use std::collections::HashMap;

use crate::net::VOCABULARY;
use crate::rng::Rng;

/// Longest token, in bytes.
const LONGEST: usize = 8;
/// Tokens read from one text; the rest is ignored, as a model's context length demands.
const MAX_TOKENS: usize = 512;
const CONSONANTS: &[u8] = b"bcdfghklmnprstvwz";
const VOWELS: &[u8] = b"aeiou";

/// A vocabulary of made-up words and every single letter, so that any text can be tokenised.
#[derive(Debug)]
pub(super) struct Tokenizer {
    ids: HashMap<Box<[u8]>, u32>,
}

impl Tokenizer {
    /// The vocabulary of `seed`; id 0 stands for anything unknown.
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x7061_7273);
        let mut ids = HashMap::with_capacity(VOCABULARY);
        for letter in b'a'..=b'z' {
            ids.insert(Box::from([letter]), 1 + u32::from(letter - b'a'));
        }
        while ids.len() + 1 < VOCABULARY {
            let next = ids.len() as u32 + 1;
            ids.entry(piece(&mut rng).into_boxed_slice()).or_insert(next);
        }
        Self { ids }
    }

    /// The ids of a text, at most 512.
    pub(super) fn encode(&self, text: &str) -> Vec<u32> {
        let mut tokens = Vec::with_capacity(128);
        for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
            let word = word.to_lowercase();
            let mut rest = word.as_bytes();
            while !rest.is_empty() {
                if tokens.len() == MAX_TOKENS {
                    return tokens;
                }
                let (id, length) = self.longest(rest);
                tokens.push(id);
                rest = &rest[length..];
            }
        }
        tokens
    }

    fn longest(&self, text: &[u8]) -> (u32, usize) {
        for length in (1..=text.len().min(LONGEST)).rev() {
            if let Some(id) = self.ids.get(&text[..length]) {
                return (*id, length);
            }
        }
        (0, 1)
    }
}

/// One to four made-up syllables.
fn piece(rng: &mut Rng) -> Vec<u8> {
    let mut piece = Vec::with_capacity(LONGEST);
    for _ in 0..=rng.below(LONGEST as u64 / 2) {
        piece.push(CONSONANTS[rng.below(CONSONANTS.len() as u64) as usize]);
        piece.push(VOWELS[rng.below(VOWELS.len() as u64) as usize]);
    }
    piece
}

/// A text of `words` made-up words, for the load generator.
pub(crate) fn text(rng: &mut Rng, words: usize) -> String {
    let mut text = String::new();
    for _ in 0..words {
        for _ in 0..=rng.below(2) {
            text.extend(piece(rng).into_iter().map(char::from));
        }
        text.push(' ');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_is_in_the_vocabulary_and_unique() {
        let tokenizer = Tokenizer::new(1);
        let mut seen = vec![false; VOCABULARY];
        for id in tokenizer.ids.values() {
            assert!(!std::mem::replace(&mut seen[*id as usize], true), "{id} twice");
        }
        assert_eq!(tokenizer.ids.len(), VOCABULARY - 1);
    }

    #[test]
    fn the_longest_known_piece_wins() {
        let tokenizer = Tokenizer::new(1);
        let long = tokenizer.ids.keys().find(|piece| piece.len() == LONGEST).unwrap();
        let word = std::str::from_utf8(long).unwrap();
        assert_eq!(tokenizer.encode(word), [tokenizer.ids[long]]);
        assert_eq!(tokenizer.encode(&word.to_uppercase()), tokenizer.encode(word));
    }

    #[test]
    fn any_text_is_tokenised_and_none_exceeds_the_limit() {
        let tokenizer = Tokenizer::new(1);
        assert!(tokenizer.encode("..., !").is_empty());
        assert!(tokenizer.encode("日本語 x").iter().all(|id| (*id as usize) < VOCABULARY));
        assert_eq!(tokenizer.encode(&"x ".repeat(5_000)).len(), MAX_TOKENS);
        let text = text(&mut Rng::new(1), 80);
        let count = tokenizer.encode(&text).len();
        assert!((80..400).contains(&count), "{count} tokens");
    }
}
