"""Sentences on which a text tower must match the library it came from: the shortest, the longest, many scripts."""

from __future__ import annotations

LONG = (
    "a very long description of a busy market street on a rainy evening, with red and yellow umbrellas, two bicycles, "
    "a delivery van, wet cobblestones that mirror the lamps, and somebody's dog waiting under an awning; "
)

SENTENCES = (
    "a",
    "",
    "dog",
    "a photo of a cat",
    "A Photo of TWO dogs, running!",
    "it's the driver's; they'll say we've won, I'd think",
    "1984 and 3.14159, 50% off: $12.99 (each)",
    "a   lot \t of \n space",
    "e-mail me@example.org #1 C++ & AT&amp;T",
    "un garçon déçu à l'été, œuvre naïve",
    "Ein Mädchen trägt Äpfel über die Straße",
    "Собака и кошка сидят на траве",
    "Ο σκύλος και η γάτα",
    "一只狗坐在草地上",
    "犬が草の上に座っています",
    "개가 잔디에 앉아 있다",
    "هناك كلب يجلس على العشب",
    "कुत्ता घास पर बैठा है",
    "สุนัขนั่งอยู่บนหญ้า",
    "a smiling face 😀 and a family 👩‍👩‍👧",
    "snake_case words and some-thing else ...",
    "a photo of a person wearing a red jacket and blue jeans on a skateboard in front of a brick wall",
    LONG,
    LONG * 4,
)
