//! A bit set of tasks. The position of a task's bit is the task's place in the topological order.

/// A set of places of tasks in the topological order.
#[derive(Clone, Debug, Default)]
pub struct Places {
    words: Vec<u64>,
}

impl Places {
    /// Creates a set of the given places.
    pub fn of(places: impl Iterator<Item = usize>) -> Self {
        let mut set = Self::default();
        for place in places {
            let word = place / 64;
            if word >= set.words.len() {
                set.words.resize(word + 1, 0);
            }
            set.words[word] |= 1 << (place % 64);
        }
        set
    }

    /// Creates a set from its bits, 64 in each word.
    pub fn from_words(words: &[u64]) -> Self {
        Self {
            words: words.to_vec(),
        }
    }

    /// Returns the bits, 64 in each word.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    pub fn contains(&self, place: usize) -> bool {
        let word = self.words.get(place / 64);
        word.is_some_and(|word| word & (1 << (place % 64)) != 0)
    }

    /// Returns whether every place of this set is also in `other`.
    pub fn is_within(&self, other: &[u64]) -> bool {
        let others = other.iter().chain(std::iter::repeat(&0));
        self.words
            .iter()
            .zip(others)
            .all(|(mine, theirs)| mine & !theirs == 0)
    }

    pub fn remove(&mut self, place: usize) {
        if let Some(word) = self.words.get_mut(place / 64) {
            *word &= !(1 << (place % 64));
        }
    }

    /// Removes the highest place and returns it.
    pub fn pop_last(&mut self) -> Option<usize> {
        while self.words.last() == Some(&0) {
            self.words.pop();
        }
        let last = self.words.last_mut()?;
        let bit = last.ilog2();
        *last &= !(1 << bit);
        Some((self.words.len() - 1) * 64 + bit as usize)
    }

    pub fn add_all(&mut self, other: &[u64]) {
        if self.words.len() < other.len() {
            self.words.resize(other.len(), 0);
        }
        for (mine, theirs) in self.words.iter_mut().zip(other) {
            *mine |= theirs;
        }
    }

    pub fn remove_all(&mut self, other: &[u64]) {
        for (mine, theirs) in self.words.iter_mut().zip(other) {
            *mine &= !theirs;
        }
    }

    pub fn keep_only(&mut self, other: &[u64]) {
        self.words.truncate(other.len());
        for (mine, theirs) in self.words.iter_mut().zip(other) {
            *mine &= theirs;
        }
    }
}
