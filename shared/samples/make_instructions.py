"""Makes the sample instruction set: python3 shared/samples/make_instructions.py writes it, with --check it compares.

It joins the entries of instructions-written.json, which were written one by one, with entries made here from word
lists. The same seed gives the same files:

- instructions.json: the entries, with the keys instruction, input and output;
- instruction-kinds.json: for each entry, in the same order, its kind of task and the item that it asks about. Many
  items are asked about in two forms ("Give the opposite of 'hot'.", "Name an antonym of 'hot'."), never with the same
  words. So a test entry whose kind and item stand in the training part, too, asks for something seen in another form.
"""

import json
import random
import re
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SEED, N_ENTRIES, TWICE = 123, 1_150, 0.5


def pairs(text):
    """ "a b, c d" -> [("a", "b"), ("c", "d")]; an underscore stands for a space."""
    return [tuple(word.replace("_", " ") for word in pair.split()) for pair in text.split(",")]


def words(text):
    return [word.replace("_", " ") for word in text.split()]


ANTONYMS = pairs("""hot cold, early late, wide narrow, loud quiet, rough smooth, heavy light, wet dry, ancient modern,
    brave cowardly, cheap expensive, clean dirty, dark bright, dull sharp, easy difficult, fast slow, first last,
    full empty, happy sad, hard soft, high low, inside outside, lose find, open closed, proud humble, push pull,
    rich poor, rude polite, simple complicated, strong weak, tall short, thick thin, under over, young old, wild tame,
    win lose, accept refuse, attack defend, buy sell, forget remember, increase decrease""")
SYNONYMS = pairs("""angry furious, answer reply, big large, brave courageous, calm peaceful, clever smart, end finish,
    fast quick, fix repair, gift present, glad pleased, hurry rush, jump leap, large huge, look gaze, near close,
    odd strange, old ancient, pick choose, rich wealthy, road street, scared afraid, shout yell, small little,
    smell scent, start begin, stone rock, strong powerful, tale story, thin slender, think believe, tired weary,
    trip journey, unhappy sad, wet damp, wide broad, wish desire, worker employee, wonderful marvellous, wrong false""")
PLURALS = pairs("""child children, foot feet, tooth teeth, mouse mice, man men, woman women, ox oxen, sheep sheep,
    knife knives, wife wives, life lives, shelf shelves, half halves, loaf loaves, thief thieves, city cities,
    lady ladies, story stories, baby babies, fly flies, box boxes, fox foxes, bus buses, glass glasses, dish dishes,
    watch watches, church churches, potato potatoes, tomato tomatoes, hero heroes, key keys, toy toys, day days,
    chair chairs, lamp lamps, garden gardens""")
PASTS = pairs("""begin began, break broke, build built, buy bought, catch caught, choose chose, come came, draw drew,
    drink drank, drive drove, eat ate, fall fell, feel felt, fly flew, forget forgot, give gave, go went, grow grew,
    hear heard, hold held, keep kept, know knew, leave left, lose lost, make made, meet met, ride rode, ring rang,
    run ran, see saw, sell sold, send sent, sing sang, sleep slept, swim swam, take took, tell told, think thought,
    throw threw, write wrote""")
COMPARISONS = pairs("""tall taller tallest, short shorter shortest, big bigger biggest, hot hotter hottest,
    thin thinner thinnest, happy happier happiest, easy easier easiest, busy busier busiest, noisy noisier noisiest,
    bad worse worst, little less least, far farther farthest, nice nicer nicest, large larger largest,
    wise wiser wisest, old older oldest, cold colder coldest, deep deeper deepest, strange stranger strangest,
    pretty prettier prettiest, sad sadder saddest, wet wetter wettest, brave braver bravest, young younger youngest""")
CAPITALS = pairs("""Argentina Buenos_Aires, Australia Canberra, Austria Vienna, Belgium Brussels, Brazil Brasilia,
    Bulgaria Sofia, Canada Ottawa, Chile Santiago, China Beijing, Colombia Bogota, Croatia Zagreb, Cuba Havana,
    Denmark Copenhagen, Egypt Cairo, Estonia Tallinn, Ethiopia Addis_Ababa, Finland Helsinki, France Paris,
    Germany Berlin, Ghana Accra, Greece Athens, Hungary Budapest, Iceland Reykjavik, India New_Delhi, Iran Tehran,
    Iraq Baghdad, Ireland Dublin, Italy Rome, Japan Tokyo, Jordan Amman, Mexico Mexico_City, Morocco Rabat,
    Nepal Kathmandu, Norway Oslo, Poland Warsaw, Portugal Lisbon, Spain Madrid, Sweden Stockholm, Thailand Bangkok,
    Vietnam Hanoi""")
CONTINENTS = pairs("""Argentina South_America, Austria Europe, Brazil South_America, Canada North_America, Chile
    South_America, China Asia, Denmark Europe, Ecuador South_America, Ethiopia Africa, Finland Europe, France Europe,
    Ghana Africa, Greece Europe, India Asia, Ireland Europe, Italy Europe, Japan Asia, Kenya Africa, Mali Africa,
    Mexico North_America, Mongolia Asia, Morocco Africa, Namibia Africa, Nepal Asia, Nigeria Africa, Norway Europe,
    Pakistan Asia, Poland Europe, Portugal Europe, Senegal Africa, Spain Europe, Thailand Asia, Uruguay South_America,
    Vietnam Asia, Zambia Africa""")
SPELLINGS = pairs("""acheive achieve, adress address, agressive aggressive, apparant apparent, arguement argument,
    beatiful beautiful, becuase because, begining beginning, beleive believe, buisness business, catagory category,
    collegue colleague, comming coming, commitee committee, completly completely, definately definitely,
    diffrent different, dissapear disappear, embarass embarrass, enviroment environment, existance existence,
    familar familiar, finaly finally, foriegn foreign, freind friend, goverment government, happend happened,
    imediately immediately, independant independent, intresting interesting, knowlege knowledge, lisence licence,
    milion million, noticable noticeable, occured occurred, posession possession, prefered preferred, recieve receive,
    resturant restaurant, seperate separate""")
GROUPS = {
    "mammal": words("dolphin otter badger camel squirrel hedgehog giraffe rabbit walrus tiger"),
    "bird": words("sparrow eagle penguin heron pigeon robin swan magpie stork parrot"),
    "fish": words("salmon trout cod carp pike mackerel tuna sardine shark eel"),
    "insect": words("beetle ant wasp butterfly dragonfly cricket moth mosquito ladybird grasshopper"),
    "reptile": words("lizard crocodile tortoise python gecko iguana viper alligator chameleon turtle"),
}
CATEGORIES = {
    "fruit": words("apple pear cherry plum peach grape banana lemon"),
    "vegetables": words("carrot cabbage onion leek spinach turnip celery pea"),
    "tools": words("hammer saw chisel drill spanner pliers screwdriver file"),
    "clothes": words("coat scarf shirt skirt glove sock jacket hat"),
    "instruments": words("violin trumpet flute drum guitar harp piano cello"),
    "furniture": words("table chair wardrobe desk bed sofa bookcase stool"),
    "vehicles": words("bus tram lorry bicycle train car motorcycle van"),
    "colours": words("red blue green yellow purple orange brown grey"),
    "trees": words("oak birch maple pine willow beech ash poplar"),
    "drinks": words("tea coffee milk juice lemonade cocoa water cider"),
}
YOUNG = pairs("""cat kitten, dog puppy, cow calf, horse foal, goat kid, pig piglet, bear cub, lion cub, goose gosling,
    duck duckling, swan cygnet, hen chick, frog tadpole, hare leveret, deer fawn, owl owlet, eagle eaglet, fox cub,
    elephant calf, wolf pup, seal pup, whale calf""")
SYMBOLS = pairs("""hydrogen H, helium He, carbon C, nitrogen N, oxygen O, sodium Na, magnesium Mg, aluminium Al,
    silicon Si, sulphur S, chlorine Cl, potassium K, calcium Ca, iron Fe, copper Cu, zinc Zn, silver Ag, iodine I,
    gold Au, mercury Hg, lead Pb, neon Ne, nickel Ni, uranium U""")
ARTICLES = pairs("""a lamp, an apple, an owl, a river, an hour, a unicorn, an umbrella, a ladder, an engine, a house,
    an onion, a European_city, an idea, a one-way_street, an honest_man, a kettle, an oven, a useful_tool, an island,
    a yellow_coat, an elephant, a garden, an old_map, a wooden_box, an inch, a university, an ugly_vase, a candle""")
NOUNS = pairs("""arrive arrival, grow growth, invite invitation, move movement, explain explanation, discover discovery,
    agree agreement, choose choice, sell sale, refuse refusal, build building, sing song, think thought, weigh weight,
    invent invention, protect protection, fail failure, die death, believe belief, lose loss, advise advice,
    describe description, improve improvement, depart departure""")
ADVERBS = pairs("""slow slowly, quick quickly, happy happily, angry angrily, easy easily, gentle gently, simple simply,
    good well, loud loudly, quiet quietly, brave bravely, sudden suddenly, polite politely, honest honestly,
    heavy heavily, true truly, lazy lazily, nervous nervously, clear clearly, terrible terribly""")
DEFINITIONS = {
    "lighthouse": "A lighthouse is a tower with a strong light that guides ships.",
    "orchard": "An orchard is a piece of land where fruit trees are grown.",
    "bakery": "A bakery is a shop where bread and cakes are made and sold.",
    "compass": "A compass is an instrument whose needle points north.",
    "desert": "A desert is a dry region where few plants grow.",
    "library": "A library is a place where books are kept for people to read or borrow.",
    "volcano": "A volcano is a mountain from which hot melted rock can burst.",
    "anchor": "An anchor is a heavy hook that keeps a ship in its place.",
    "kettle": "A kettle is a pot with a spout for boiling water.",
    "neighbour": "A neighbour is a person who lives next door or nearby.",
    "bridge": "A bridge is a structure that carries a road over a river or a valley.",
    "calendar": "A calendar is a table of the days, weeks and months of a year.",
    "diary": "A diary is a book in which someone writes what happens each day.",
    "echo": "An echo is a sound that comes back from a wall or a cliff.",
    "forest": "A forest is a large area covered with trees.",
    "glove": "A glove is a covering for the hand with a part for each finger.",
    "hotel": "A hotel is a building where travellers pay to stay overnight.",
    "ladder": "A ladder is a frame with steps for climbing up and down.",
    "market": "A market is a place where people meet to buy and sell goods.",
    "orphan": "An orphan is a child whose parents are dead.",
    "passport": "A passport is an official document that lets a person travel abroad.",
    "refrigerator": "A refrigerator is a cold cupboard that keeps food fresh.",
    "secret": "A secret is something that is kept hidden from others.",
    "tunnel": "A tunnel is a passage that runs under the ground or through a hill.",
    "umbrella": "An umbrella is a folding cover that keeps off the rain.",
    "village": "A village is a small group of houses in the country.",
    "widow": "A widow is a woman whose husband has died.",
    "avalanche": "An avalanche is a mass of snow that slides down a mountain.",
}
REVIEWS = {
    "positive": [
        "The soup was hot, the bread was fresh and the waiter was kind.", "I read the whole book in one evening.",
        "The lamp is bright and looks lovely on my desk.", "These boots kept my feet dry all winter.",
        "A charming film that made us laugh from start to end.", "The garden was the best part of our stay.",
        "My old clock runs again, and the repair cost very little.", "Our guide knew everything and never hurried us.",
        "The cake arrived in time and tasted wonderful.", "The bed was soft and the room was quiet.",
        "I would gladly take this train again.", "The concert was worth every penny.",
    ],
    "negative": [
        "The tea was cold and the cups were dirty.", "The umbrella broke on the first windy day.",
        "We waited an hour and then were sent away.", "The play was so dull that half of us left early.",
        "The paint came off after a week.", "Nobody could tell us where the bus was.",
        "The map is wrong in three places.", "The chair wobbles and one screw was missing.",
        "I asked for my money back and never heard from them.", "The soup tasted of nothing but salt.",
        "The noise from the street kept us awake all night.", "The seller was rude and the price was too high.",
    ],
}  # fmt: skip
# subject, base form, third person, past, participle, object; all subjects are third person singular.
SENTENCES = [
    tuple(part.strip() for part in line.split("|"))
    for line in """The baker | open | opens | opened | opened | the shop
The gardener | plant | plants | planted | planted | a tree
My sister | write | writes | wrote | written | a long letter
The captain | steer | steers | steered | steered | the ship
The old man | feed | feeds | fed | fed | the pigeons
The teacher | read | reads | read | read | a poem
Anna | find | finds | found | found | the key
The boy | carry | carries | carried | carried | the basket
The farmer | sell | sells | sold | sold | the cow
Her uncle | build | builds | built | built | a boat
The doctor | visit | visits | visited | visited | the village
The queen | wear | wears | wore | worn | a crown
The cook | burn | burns | burned | burned | the toast
Peter | paint | paints | painted | painted | the fence
The nurse | bring | brings | brought | brought | the medicine
The dog | hide | hides | hid | hidden | the bone
The driver | stop | stops | stopped | stopped | the train
The artist | draw | draws | drew | drawn | a horse
My brother | break | breaks | broke | broken | the window
The girl | choose | chooses | chose | chosen | a red ribbon
The guard | lock | locks | locked | locked | the gate
The widow | keep | keeps | kept | kept | the ring
The sailor | tell | tells | told | told | a strange story
The tailor | make | makes | made | made | a coat
The judge | forget | forgets | forgot | forgotten | the name
Maria | sing | sings | sang | sung | an old song
The cat | catch | catches | caught | caught | a mouse
The clerk | count | counts | counted | counted | the coins
The hunter | see | sees | saw | seen | a bear
The child | drop | drops | dropped | dropped | the cup""".splitlines()
]
POLITE = {
    "Open the window.": "Could you please open the window?",
    "Pass me the bread.": "Could you please pass me the bread?",
    "Call me tomorrow.": "Could you please call me tomorrow?",
    "Wait here.": "Could you please wait here?",
    "Turn off the radio.": "Could you please turn off the radio?",
    "Sit down.": "Could you please sit down?",
    "Close the door.": "Could you please close the door?",
    "Speak more slowly.": "Could you please speak more slowly?",
    "Lend me your pen.": "Could you please lend me your pen?",
    "Bring me a chair.": "Could you please bring me a chair?",
    "Show me the way.": "Could you please show me the way?",
    "Move your bag.": "Could you please move your bag?",
    "Wash the cups.": "Could you please wash the cups?",
    "Repeat the question.": "Could you please repeat the question?",
    "Help me with this box.": "Could you please help me with this box?",
    "Send me the bill.": "Could you please send me the bill?",
}
UNITS = [("kilometres", "metres", 1000), ("metres", "centimetres", 100), ("centimetres", "millimetres", 10),
         ("kilograms", "grams", 1000), ("litres", "millilitres", 1000), ("hours", "minutes", 60),
         ("minutes", "seconds", 60), ("days", "hours", 24), ("feet", "inches", 12), ("yards", "feet", 3)]  # fmt: skip
PLAIN_WORDS = sorted({word for group in (*GROUPS.values(), *CATEGORIES.values()) for word in group})


def lower_first(text):
    """A subject in the middle of a sentence: "The baker" -> "the baker", names stay."""
    return text[0].lower() + text[1:] if text.split()[0] in ("The", "My", "Her") else text


def filled(form, a, b):
    """A form with the two words of a pair, the second one also with a capital letter and with its article."""
    return form.format(a=a, b=b, B=b.capitalize(), an="an" if b[0] in "aeiou" else "a")


def pair_kinds():
    """kind -> [(item, [(instruction, input, output), ...]), ...] from lists of two words."""
    kinds = {}
    for kind, table, forms in (
        ("antonym", ANTONYMS, [("Give the opposite of '{a}'.", "", "The opposite of '{a}' is '{b}'."),
                               ("Name an antonym of '{a}'.", "", "An antonym of '{a}' is '{b}'."),
                               ("Write the opposite of the word.", "{a}", "{b}")]),
        ("synonym", SYNONYMS, [("Give a synonym for '{a}'.", "", "A synonym for '{a}' is '{b}'."),
                               ("Name a word that means the same as '{a}'.", "", "'{B}' means the same as '{a}'."),
                               ("Replace the word by a synonym.", "{a}", "{b}")]),
        ("plural", PLURALS, [("What is the plural of '{a}'?", "", "The plural of '{a}' is '{b}'."),
                             ("Change the word to the plural.", "{a}", "{b}")]),
        ("past of a verb", PASTS, [("What is the past tense of '{a}'?", "", "The past tense of '{a}' is '{b}'."),
                                   ("Write the verb in the past tense.", "{a}", "{b}")]),
        ("capital", CAPITALS, [("What is the capital city of {a}?", "", "The capital city of {a} is {b}."),
                               ("Name the capital of {a}.", "", "The capital of {a} is {b}."),
                               ("Of which country is this city the capital?", "{b}", "{b} is the capital of {a}.")]),
        ("continent", CONTINENTS, [("On which continent is {a}?", "", "{a} is in {b}."),
                                   ("Name the continent of the country.", "{a}", "{b}")]),
        ("spelling", SPELLINGS, [("Fix the spelling mistake in this word.", "{a}", "{b}"),
                                 ("How is '{a}' spelled correctly?", "", "The correct spelling is '{b}'.")]),
        ("young animal", YOUNG, [("What is a young {a} called?", "", "A young {a} is called {an} {b}."),
                                 ("Name the young of the animal.", "{a}", "{b}")]),
        ("chemical symbol", SYMBOLS,
         [("What is the chemical symbol for {a}?", "", "The chemical symbol for {a} is {b}."),
          ("Which element has this symbol?", "{b}", "{b} is the symbol for {a}.")]),
        ("word family", NOUNS, [("Make a noun from the verb '{a}'.", "", "The noun is '{b}'."),
                                     ("Write the noun that belongs to the verb.", "{a}", "{b}")]),
        ("adverb", ADVERBS, [("Make an adverb from the adjective '{a}'.", "", "The adverb is '{b}'."),
                             ("Write the adverb that belongs to the adjective.", "{a}", "{b}")]),
        ("article", [(noun, article) for article, noun in ARTICLES],
         [("Fill in the gap with 'a' or 'an'.", "___ {a}", "{b} {a}"),
          ("Is it 'a {a}' or 'an {a}'?", "", "It is '{b} {a}'.")]),
        ("definition", list(DEFINITIONS.items()), [("Define the word '{a}' in one sentence.", "", "{b}"),
                                                   ("Explain what the word means.", "{a}", "{b}")]),
        ("polite", list(POLITE.items()), [("Make the sentence more polite.", "{a}", "{b}"),
                                          ("Turn the order into a polite request.", "{a}", "{b}")]),
        ("review", [(text, mood) for mood, texts in REVIEWS.items() for text in texts],
         [("Is the review positive or negative?", "{a}", "{b}"),
          ("Classify the mood of this review.", "{a}", "The review is {b}.")]),
        ("animal", [(animal, group) for group, animals in GROUPS.items() for animal in animals],
         [("Is this animal a mammal, a bird, a fish, an insect or a reptile?", "{a}", "{b}"),
          ("What kind of animal is the {a}?", "", "The {a} is {an} {b}.")]),
    ):  # fmt: skip
        kinds[kind] = [(a, [tuple(filled(part, a, b) for part in form) for form in forms]) for a, b in table]
    kinds["comparison"] = [
        (word, [(f"What is the comparative form of '{word}'?", "", f"The comparative form of '{word}' is '{more}'."),
                (f"What is the superlative form of '{word}'?", "", f"The superlative form of '{word}' is '{most}'."),
                ("Write the comparative and the superlative of the adjective.", word, f"{more}, {most}")])
        for word, more, most in COMPARISONS
    ]  # fmt: skip
    return kinds


def sentence_kinds():
    """Kinds that turn a sentence into another one."""
    kinds = {"negative": [], "question": [], "tense": [], "passive": []}
    for subject, base, third, past, participle, thing in SENTENCES:
        now, was = f"{subject} {third} {thing}.", f"{subject} {past} {thing}."
        passive = f"{thing[0].upper()}{thing[1:]} {'were' if thing.endswith(('pigeons', 'coins')) else 'was'} "
        passive += f"{participle} by {lower_first(subject)}."
        forms = {
            "negative": ("Make the sentence negative.", "Write the opposite statement with 'not'.", now,
                         f"{subject} does not {base} {thing}."),
            "question": ("Turn the statement into a question.", "Ask whether this is so.", now,
                         f"Does {lower_first(subject)} {base} {thing}?"),
            "tense": ("Put the sentence into the future tense.", "Rewrite the sentence with 'will'.", now,
                      f"{subject} will {base} {thing}."),
            "passive": ("Turn the sentence into the passive voice.", "Rewrite the sentence in the passive voice.", was,
                        passive),
        }  # fmt: skip
        for kind, (one, two, given, answer) in forms.items():
            kinds[kind].append((given, [(one, given, answer), (two, given, answer)]))
    return kinds


def drawn_kinds(draw):
    """Kinds whose items are drawn: arithmetic, conversions, sorting, counting, groups."""
    kinds = {kind: [] for kind in ("sum", "difference", "product", "conversion", "sort words", "sort numbers",
                                   "backwards", "count letters", "odd one out", "category")}  # fmt: skip
    for _ in range(55):
        a, b = draw.randint(12, 99), draw.randint(12, 99)
        kinds["sum"].append((f"{a}+{b}", [(f"Add {a} and {b}.", "", f"{a} + {b} = {a + b}"),
                                          ("Work out the sum.", f"{a} + {b}", f"{a + b}")]))  # fmt: skip
        a, b = max(a, b) + 1, min(a, b)
        kinds["difference"].append((f"{a}-{b}", [(f"Subtract {b} from {a}.", "", f"{a} - {b} = {a - b}"),
                                                 ("Work out the difference.", f"{a} - {b}", f"{a - b}")]))  # fmt: skip
        a, b = draw.randint(3, 12), draw.randint(3, 12)
        kinds["product"].append((f"{a}*{b}", [(f"What is {a} times {b}?", "", f"{a} times {b} is {a * b}."),
                                              ("Work out the product.", f"{a} x {b}", f"{a * b}")]))  # fmt: skip
        large, small, factor = draw.choice(UNITS)
        n = draw.randint(2, 12)
        kinds["conversion"].append((f"{n} {large}", [
            (f"Convert {n} {large} to {small}.", "", f"{n} {large} is {n * factor:,} {small}."),
            (f"How many {small} are there in {n} {large}?", "", f"{n} {large} is {n * factor:,} {small}."),
        ]))  # fmt: skip
        some = draw.sample(PLAIN_WORDS, 4)
        kinds["sort words"].append((", ".join(some), [
            ("Sort the words alphabetically.", ", ".join(some), ", ".join(sorted(some))),
            ("Put the words into the order of a dictionary.", ", ".join(some), ", ".join(sorted(some))),
        ]))  # fmt: skip
        some = draw.sample(range(2, 100), 4)
        given, up = ", ".join(map(str, some)), ", ".join(map(str, sorted(some)))
        down = ", ".join(map(str, sorted(some, reverse=True)))
        kinds["sort numbers"].append((given, [("Put the numbers in ascending order.", given, up),
                                              ("Put the numbers in descending order.", given, down)]))  # fmt: skip
        word = draw.choice(PLAIN_WORDS)
        kinds["backwards"].append((word, [("Write the word backwards.", word, word[::-1]),
                                          (f"Spell '{word}' from the last letter to the first.", "", word[::-1])]))
        kinds["count letters"].append((word, [
            ("How many letters are in the word?", word, f"The word has {len(word)} letters."),
            (f"Count the letters of '{word}'.", "", f"'{word.capitalize()}' has {len(word)} letters.")]))  # fmt: skip
        name, other = draw.sample(list(CATEGORIES), 2)
        inside, outsider = draw.sample(CATEGORIES[name], 3), draw.choice(CATEGORIES[other])
        mixed = draw.sample([*inside, outsider], 4)
        kinds["odd one out"].append((", ".join(mixed), [
            ("Which word does not belong with the others?", ", ".join(mixed), outsider),
            ("Find the odd one out.", ", ".join(mixed), outsider)]))  # fmt: skip
        kinds["category"].append((", ".join(inside), [
            ("Name the category that these items share.", ", ".join(inside), name),
            ("What are all of these?", ", ".join(inside), f"They are all {name}.")]))  # fmt: skip
    return {kind: list(dict(items).items()) for kind, items in kinds.items()}


# The kind of an entry that was written by itself, by the words of its instruction; the first that fits.
WRITTEN = [
    (r"opposite|antonym", "antonym"), (r"synonym|means the same", "synonym"), (r"rhym", "rhyme"), (r"plural", "plural"),
    (r"past tense of|participle of", "past of a verb"), (r"comparative|superlative", "comparison"),
    (r"capital (city )?of", "capital"), (r"continent", "continent"), (r"spelling", "spelling"), (r"grammar", "grammar"),
    (r"passive", "passive"), (r"active", "active"), (r"negative\.", "negative"), (r"into a question", "question"),
    (r"past tense|future tense|present", "tense"), (r"review|tone", "review"), (r"simile", "simile"),
    (r"backwards|reverse order", "backwards"), (r"How many (words|letters) are in the", "count letters"),
    (r"[Ss]ort the words|order|Order|shortest", "sort"),
    (r"^Convert|^How many \w+ are (there )?in [\d.]", "conversion"),
    (r"^(Add|Subtract) \d|times \d|squared|percent|divided|average|half of|fraction|cost|marbles|area|perimeter|Round",
     "arithmetic"),
    (r"Answer the question using", "reading"), (r"mammal|[Cc]lassify|[Ss]ort the items|solid|odd or even", "classify"),
    (r"[Dd]efine|does the (word|idiom)|^What is a \w+\?", "definition"), (r"polite|formal", "polite"),
    (r"capital letters|comma|apostrophe|punctuation|contraction|gap|right word", "correct"),
    (r"in the sentence|subject|Name the (verb|adverb)", "parts of speech"),
    (r"Make an? (noun|adverb|adjective)", "word family"),
    (r"baby|young", "young animal"), (r"does not belong|category", "category"), (r"^(List|Name) ", "list"),
    (r"^Write |Combine|Shorten|Replace|letter of each", "write"),
]  # fmt: skip


def kind_of(task):
    """The kind of an entry that was written by itself."""
    return next((kind for pattern, kind in WRITTEN if re.search(pattern, task)), "short fact")


def written():
    """[(kind, item, entry), ...] of the entries that were written by themselves."""
    entries = json.loads((FOLDER / "instructions-written.json").read_text(encoding="utf-8"))
    return [(kind_of(e["instruction"]), e["input"] or e["instruction"], e) for e in entries]


def asked(entry):
    """What an entry asks, without case and punctuation: two entries must differ in it."""
    return tuple(" ".join(re.sub(r"[^\w]+", " ", entry[key].lower()).split()) for key in ("instruction", "input"))


def make():
    """(entries, kinds) of the whole set, shuffled."""
    draw = random.Random(SEED)
    made = written()
    seen = {asked(entry) for _, _, entry in made}
    items = [(kind, item, forms) for kind, table in (pair_kinds() | sentence_kinds() | drawn_kinds(draw)).items()
             for item, forms in table]  # fmt: skip
    draw.shuffle(items)
    for kind, item, forms in items:
        for form in draw.sample(forms, 2 if draw.random() < TWICE else 1):
            entry = dict(zip(("instruction", "input", "output"), form))
            if asked(entry) not in seen and len(made) < N_ENTRIES:
                seen.add(asked(entry))
                made.append((kind, item, entry))
    draw.shuffle(made)
    return [entry for _, _, entry in made], [{"kind": kind, "item": item} for kind, item, _ in made]


def main(argv):
    """Command line, see the module's docstring; exit status 1 if --check finds a difference."""
    entries, kinds = make()
    differ = False
    for name, what in (("instructions.json", entries), ("instruction-kinds.json", kinds)):
        text = json.dumps(what, indent=1, ensure_ascii=False) + "\n"
        path = FOLDER / name
        if argv == ["--check"]:
            if path.read_bytes() != text.encode():
                print(f"{path.name} is not what the script makes; run it without --check")
                differ = True
        else:
            path.write_bytes(text.encode())
            print(f"{path.name}: {len(what)} entries")
    return int(differ)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
