"""Tasks that a program can check: short stories with three given words, a feature and an ending (chapter 7).

The stories are put together from lists of sentences, so the set is small enough for a small model to master and a
story can be judged without a reader. Three things are kept out of training:

- pairs of a character and a thing whose places in the lists add up to a multiple of ``EVERY``;
- pairs of a feature and an ending of which the same holds;
- the words in ``NEW``, altogether.
"""

import random
import re

from shared import guards

EVERY = 4
WHO = ("fox baker sailor badger widow clerk owl shepherd boy gardener crow doctor miller goose tailor hunter").split()
THING = ("lantern key drum letter kettle ribbon clock basket mirror coin bell glove map spoon book feather rope shoe "
         "button candle box umbrella ring whistle").split()  # fmt: skip
PLACE = ("mill harbour orchard bridge garden market well forest church river meadow station barn beach tower "
         "road").split()  # fmt: skip
NEW = {
    "who": "wolf queen painter monkey soldier nurse".split(),
    "thing": "ladder violin pearl saddle anchor cake".split(),
    "place": "castle desert island school theatre cave".split(),
}

FEATURES = {
    "a talk": [
        '"Nobody will miss it," said the {who}.', '"This must be worth a great deal," said the {who}.',
        '"I have waited for this all my life," the {who} whispered.', '"Come and look," the {who} called to a friend.',
        '"It is not mine," said the {who}, "and I shall not keep it."', '"Leave that alone," said a voice.',
        '"My mother had one like it," said the {who}.', '"Good morning," said an old man on the path.',
    ],
    "a question": [
        "Who could have left it there?", "Was it a present, or a trap?", "Had somebody lost it in the night?",
        "What was such a thing doing there?", "Should one take it or leave it?", "Why did nobody come for it?",
        "Where did it come from?", "Could it be the one from the old tale?",
    ],
    "weather": [
        "Then it began to rain.", "A cold wind blew from the north.", "Snow was falling, and the paths were white.",
        "The fog was so thick that one could see nothing.", "A storm came up behind the hills.",
        "The sun shone as if it had never shone before.", "The rain ran down in streams.", "The wind fell at last.",
    ],
    "a number": [
        "It was at least seven years old.", "Three letters were cut into it.", "It weighed as much as ten others.",
        "Two small marks were on one side.", "It had been lost for twelve years.", "It took five minutes to clean it.",
        "Four people had looked for it in vain.", "Six times it slipped and fell.",
    ],
}  # fmt: skip
ENDINGS = {
    "at home": [
        "In the evening the {who} carried the {thing} home.", "So the {who} turned and went home.",
        "Before night the {who} was safe at home.", "And it has hung on the wall at home ever since.",
        "There was nothing to do but to walk home.", "The {thing} found a place at home, by the fire.",
    ],
    "asleep": [
        "Tired out, the {who} fell asleep beside it.", "And soon the {who} was asleep under a tree.",
        "When the moon rose, everybody was asleep.", "With the {thing} under one arm the {who} fell asleep.",
        "The {who} sat down for a moment and fell asleep.", "By then the whole village was asleep.",
    ],
    "with laughter": [
        "The {who} looked at it again and laughed.", "When the neighbours heard of it, they all laughed.",
        "It was only a joke, and everybody laughed.", "And the {who} laughed till the tears came.",
        "The children saw the {thing} and laughed.", "Then both of them laughed.",
    ],
    "in the dark": [
        "Then the light went out, and all was dark.", "The {who} ran off into the dark.",
        "With the {thing} the {who} vanished in the dark.", "Something called, far away in the dark.",
        "Nothing moved any more in the dark.", "And the door closed, and it was dark.",
    ],
}  # fmt: skip
OPENINGS = [
    "One morning {a_who} came to the {place}.", "There was once {a_who} who lived near the {place}.",
    "Long before breakfast the {who} was at the {place}.", "On the way to the {place} there was {a_who}.",
    "In those days {a_who} worked at the {place}.", "Every day the {who} passed the {place}.",
    "It was early when the {who} reached the {place}.", "Behind the {place} lived {a_who}.",
]  # fmt: skip
FINDS = [
    "Under a stone lay {a_thing}.", "In the grass there was {a_thing}.", "Somebody had left {a_thing} there.",
    "Half hidden by leaves lay {a_thing}.", "The {who} stumbled over {a_thing}.",
    "There, in plain sight, was {a_thing}.", "The {who} was looking for {a_thing}.", "A stranger sold {a_thing} there.",
]  # fmt: skip
MIDDLES = [
    "It was old and a little broken.", "Nobody else was about.", "It was the finest in the country.",
    "The {who} looked at it for a long time.", "For a while nothing happened.", "Everybody knew that {thing}.",
    "The {who} picked it up with care.", "It was covered with dust.", "The {who} did not know what to do.",
    "Things like it are not found every day.", "Far off, a dog barked.", "A bird sang somewhere.",
]  # fmt: skip

SIGNS = {
    "a talk": r'"[^"]+"',
    "a question": r"\?",
    "weather": r"\b(rain|wind|snow|fog|storm|sun)\b",
    "a number": r"\b(two|three|four|five|six|seven|ten|twelve)\b",
}
LAST_WORDS = {"at home": "home", "asleep": "asleep", "with laughter": "laughed", "in the dark": "dark"}


def _with_article(word):
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def is_held_out(who, thing, feature, ending):
    """For a task of listed words: [is its pair of words, is its pair of feature and ending kept out of training]."""
    pairs = ((WHO, who, THING, thing), (list(FEATURES), feature, list(ENDINGS), ending))
    return [(one.index(a) + other.index(b)) % EVERY == 0 for one, a, other, b in pairs]


def _entry(rng, who, thing, place, feature, ending):
    words = [who, thing, place]
    rng.shuffle(words)
    parts = [rng.choice(OPENINGS), rng.choice(FINDS), rng.choice(MIDDLES), rng.choice(FEATURES[feature])]
    parts[2:] = rng.sample(parts[2:], 2)  # the feature comes before or after the sentence that says nothing
    if rng.random() < 0.5:
        parts.append(rng.choice([line for line in MIDDLES if line not in parts]))
    parts.append(rng.choice(ENDINGS[ending]))
    filling = {"who": who, "thing": thing, "place": place, "a_who": _with_article(who), "a_thing": _with_article(thing)}
    story = " ".join(part.format(**filling) for part in parts)
    return {
        "instruction": "Write a short story.",
        "input": f"Words: {', '.join(words)}. With: {feature}. Ending: {ending}.",
        "output": story,
        "words": words,
        "feature": feature,
        "ending": ending,
    }


def make_stories(n, seed=123, kind="training"):
    """Entries with the keys of chapter 7, and words, feature and ending, which a program can check.

    Args:
        n: how many; no two have the same task.
        seed: the same seed gives the same entries.
        kind: "training": both pairs of each task are allowed; "held out": both are kept out of training;
            "new words": words that training never has.
    """
    guards.whole_numbers(n=n)
    if kind not in ("training", "held out", "new words"):
        raise ValueError(f"there are no stories of the kind {kind!r}; the kinds are training, held out, new words")
    lists = (NEW["who"], NEW["thing"], NEW["place"]) if kind == "new words" else (WHO, THING, PLACE)
    rng, entries, tasks = random.Random(f"{seed} {kind}"), [], set()
    allowed = {"training": [False, False], "held out": [True, True]}
    for _ in range(100 * n):
        task = (*map(rng.choice, lists), rng.choice(list(FEATURES)), rng.choice(list(ENDINGS)))
        who, thing, _, feature, ending = task
        if task in tasks or (kind in allowed and is_held_out(who, thing, feature, ending) != allowed[kind]):
            continue
        tasks.add(task)
        entries.append(_entry(rng, *task))
        if len(entries) == n:
            return entries
    raise ValueError(f"{n} different tasks of the kind {kind} were not found; ask for fewer")


def last_sentence(text):
    """The last sentence of a text, without quotation marks."""
    return re.split(r"(?<=[.!?])\s+", text.replace('"', "").strip())[-1]
