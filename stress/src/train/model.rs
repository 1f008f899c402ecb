//! Handwritten digits, and a network of one hidden layer that learns them by plain gradient descent.

pub const PIXELS: usize = 64;
const DIGITS: usize = 10;

/// See `stress/data/README.md`.
const IMAGES: &str = include_str!("../../data/digits.txt");

pub struct Image {
    pixels: [f32; PIXELS],
    digit: usize,
}

pub fn images() -> Vec<Image> {
    let pixel = |c: u8| match c {
        b'0'..=b'9' => f32::from(c - b'0') / 16.0,
        _ => f32::from(c - b'a' + 10) / 16.0,
    };
    let image = |line: &[u8]| {
        let mut pixels = [0.0; PIXELS];
        pixels.iter_mut().zip(line).for_each(|(to, c)| *to = pixel(*c));
        Image { pixels, digit: usize::from(line[PIXELS + 1] - b'0') }
    };
    IMAGES.lines().map(|line| image(line.as_bytes())).collect()
}

/// All parameters one after the other: weights and biases into the hidden layer, then those out of it.
pub struct Model {
    hidden: usize,
    pub parameters: Vec<f32>,
}

impl Model {
    pub fn new(hidden: usize, rng: &mut fastrand::Rng) -> Model {
        let mut parameters = vec![0.0; hidden * (PIXELS + 1) + DIGITS * (hidden + 1)];
        let (into, out) = parameters.split_at_mut(hidden * (PIXELS + 1));
        let mut fill = |weights: &mut [f32], inputs: usize| {
            // Uniform with the variance of He and others (2015): 2 by the number of inputs.
            let most = (6.0 / inputs as f32).sqrt();
            weights.iter_mut().for_each(|weight| *weight = (rng.f32() * 2.0 - 1.0) * most);
        };
        fill(&mut into[..hidden * PIXELS], PIXELS);
        fill(&mut out[..DIGITS * hidden], hidden);
        Model { hidden, parameters }
    }

    pub fn descend(&mut self, gradient: &[f32], rate: f32) {
        self.parameters.iter_mut().zip(gradient).for_each(|(parameter, slope)| *parameter -= rate * slope);
    }

    /// The mean loss (cross entropy) over these images.
    pub fn loss<'a>(&self, images: impl ExactSizeIterator<Item = &'a Image>) -> f64 {
        let count = images.len() as f64;
        images.map(|image| f64::from(self.forward(image).2)).sum::<f64>() / count
    }

    /// The gradient of that.
    pub fn gradient<'a>(&self, images: impl ExactSizeIterator<Item = &'a Image>, gradient: &mut [f32]) {
        gradient.fill(0.0);
        let weight = 1.0 / images.len() as f32;
        images.for_each(|image| self.add_gradient(image, weight, gradient));
    }

    /// The hidden layer, the probability of each digit, and the loss.
    fn forward(&self, image: &Image) -> (Vec<f32>, [f32; DIGITS], f32) {
        let (into, out) = self.parameters.split_at(self.hidden * (PIXELS + 1));
        let (weights, biases) = into.split_at(self.hidden * PIXELS);
        let unit = |(weights, bias): (&[f32], &f32)| (dot(weights, &image.pixels) + bias).max(0.0);
        let hidden: Vec<f32> = weights.chunks(PIXELS).zip(biases).map(unit).collect();
        let (weights, biases) = out.split_at(DIGITS * self.hidden);
        let mut scores = [0.0; DIGITS];
        for (score, (weights, bias)) in scores.iter_mut().zip(weights.chunks(self.hidden).zip(biases)) {
            *score = dot(weights, &hidden) + bias;
        }
        let greatest = scores.iter().copied().fold(f32::MIN, f32::max);
        let sum: f32 = scores.iter().map(|score| (score - greatest).exp()).sum();
        let loss = sum.ln() + greatest - scores[image.digit];
        (hidden, scores.map(|score| (score - greatest).exp() / sum), loss)
    }

    fn add_gradient(&self, image: &Image, weight: f32, gradient: &mut [f32]) {
        let (hidden, mut by_score, _) = self.forward(image);
        by_score[image.digit] -= 1.0;
        let (into, out) = gradient.split_at_mut(self.hidden * (PIXELS + 1));
        let out_weights = &self.parameters[into.len()..][..DIGITS * self.hidden];
        let mut by_hidden = vec![0.0; self.hidden];
        for (digit, slope) in by_score.iter().map(|slope| slope * weight).enumerate() {
            let row = digit * self.hidden..(digit + 1) * self.hidden;
            add(&mut by_hidden, &out_weights[row.clone()], slope);
            add(&mut out[row], &hidden, slope);
            out[DIGITS * self.hidden + digit] += slope;
        }
        for (unit, slope) in by_hidden.into_iter().enumerate().filter(|(unit, _)| hidden[*unit] > 0.0) {
            add(&mut into[unit * PIXELS..(unit + 1) * PIXELS], &image.pixels, slope);
            into[self.hidden * PIXELS + unit] += slope;
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f32], what: &[f32], times: f32) {
    to.iter_mut().zip(what).for_each(|(to, what)| *to += what * times);
}
