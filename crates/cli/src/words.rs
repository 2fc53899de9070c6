//! Texts that nobody had to think of.

/// Plain words: none is another's beginning plus an "s", none needs an explanation.
const WORDS: &str = "\
acorn almond amber anchor apple april apron arrow autumn bacon badge baker bamboo banjo barley \
barn basket beach beacon bean bear beaver beech beetle bell berry birch bird biscuit blanket \
boat bonfire book boot bottle boulder bowl branch brass bread breeze brick bridge broom brush \
bucket butter button cabin cactus camel candle canoe canyon carpet carrot castle cedar cellar \
chair chalk cheese cherry chestnut chimney cinnamon circle clay cliff clock cloud clover coast \
cobalt cocoa comet compass copper coral corner cotton cradle crane crater crayon creek cricket \
crow cup curtain dahlia daisy dawn deer desert dew dial dinner dock dolphin domino door dragon \
drum dune eagle earth easel echo elbow elm ember engine envelope falcon feather fern ferry \
fiddle field fig finch fire flag flame flint flour flute foam fog forest fountain fox frost \
garden garlic gate ginger glacier glass glove goat gold goose grape grass gravel grove guitar \
hammer harbor hare harp harvest hawk hazel heather hedge heron hill honey horizon horse house \
icicle indigo ink iris iron island ivory ivy jacket jade jar jasmine jewel juniper kettle key \
kite kitten ladder lake lantern lark laurel lava lavender leaf lemon lentil lichen lighthouse \
lilac lily lime linen lizard lobster locket loom lotus magnet magpie mango maple marble meadow \
melon mint mirror mist moon moss moth mountain mushroom napkin nest noodle nutmeg oak oasis oats \
ocean olive onion orange orchard otter oven owl oyster paddle palm panda paper parrot pasture \
path peach pear pebble pencil pepper piano pigeon pillow pine pistachio planet plum pocket pond \
poppy porch potato prairie puddle pumpkin quartz quilt rabbit radish rain raven reed ribbon rice \
river robin rocket rose ruby saddle saffron sail salmon salt sand sapphire scarf seed shadow \
shell shore silver sky sled snow spark sparrow spice spoon spring spruce star stone storm stove \
straw stream sugar summer sun swallow swan table tea thistle thunder tide tiger timber toast \
tomato topaz torch tower trail train tulip tundra turnip turtle umbrella valley vanilla velvet \
village vine violet violin wagon walnut walrus water wave well whale wheat whistle willow wind \
window winter wolf wool wren yarn zebra";

/// Words of a generated text.
const LENGTH: usize = 3;

/// A text of some words, chosen by `random`, which returns a number below its argument.
pub(crate) fn text(mut random: impl FnMut(usize) -> usize) -> String {
    let words: Vec<&str> = WORDS.split(' ').collect();
    let chosen: Vec<&str> = (0..LENGTH).map(|_| words[random(words.len())]).collect();
    chosen.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_words_are_plain_and_differ() {
        let words: Vec<&str> = WORDS.split(' ').collect();
        let distinct: BTreeSet<&str> = words.iter().copied().collect();
        assert_eq!(words.len(), distinct.len());
        assert!(words.len() >= 300, "{}", words.len());
        assert!(words.iter().all(|word| word.bytes().all(|b| b.is_ascii_lowercase())));
    }

    #[test]
    fn a_text_is_made_of_them() {
        let mut n = 0;
        let text = text(|bound| {
            n += 1;
            (n * 7) % bound
        });
        assert_eq!(text, "arrow barley beaver");
    }
}
