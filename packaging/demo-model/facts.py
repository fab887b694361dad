"""What the demo model is to know: plain tables, no code."""

CAPITALS = dict(
    pair.split(":")
    for pair in """
Afghanistan:Kabul;Albania:Tirana;Algeria:Algiers;Andorra:Andorra la Vella;Angola:Luanda
Antigua and Barbuda:Saint John's;Argentina:Buenos Aires;Armenia:Yerevan;Australia:Canberra
Austria:Vienna;Azerbaijan:Baku;the Bahamas:Nassau;Bahrain:Manama;Bangladesh:Dhaka
Barbados:Bridgetown;Belarus:Minsk;Belgium:Brussels;Belize:Belmopan;Benin:Porto-Novo;Bhutan:Thimphu
Bolivia:Sucre;Bosnia and Herzegovina:Sarajevo;Botswana:Gaborone;Brazil:Brasilia
Brunei:Bandar Seri Begawan;Bulgaria:Sofia;Burkina Faso:Ouagadougou;Burundi:Gitega;Cambodia:Phnom Penh
Cameroon:Yaounde;Canada:Ottawa;Cape Verde:Praia;the Central African Republic:Bangui;Chad:N'Djamena
Chile:Santiago;China:Beijing;Colombia:Bogota;the Comoros:Moroni;Costa Rica:San Jose;Croatia:Zagreb
Cuba:Havana;Cyprus:Nicosia;the Czech Republic:Prague;Denmark:Copenhagen;Djibouti:Djibouti City
Dominica:Roseau;the Dominican Republic:Santo Domingo;the Democratic Republic of the Congo:Kinshasa
East Timor:Dili;Ecuador:Quito;Egypt:Cairo;El Salvador:San Salvador;Equatorial Guinea:Malabo
Eritrea:Asmara;Estonia:Tallinn;Eswatini:Mbabane;Ethiopia:Addis Ababa;Fiji:Suva;Finland:Helsinki
France:Paris;Gabon:Libreville;the Gambia:Banjul;Georgia:Tbilisi;Germany:Berlin;Ghana:Accra
Greece:Athens;Grenada:Saint George's;Guatemala:Guatemala City;Guinea:Conakry;Guinea-Bissau:Bissau
Guyana:Georgetown;Haiti:Port-au-Prince;Honduras:Tegucigalpa;Hungary:Budapest;Iceland:Reykjavik
India:New Delhi;Indonesia:Jakarta;Iran:Tehran;Iraq:Baghdad;Ireland:Dublin;Israel:Jerusalem;Italy:Rome
Ivory Coast:Yamoussoukro;Jamaica:Kingston;Japan:Tokyo;Jordan:Amman;Kazakhstan:Astana;Kenya:Nairobi
Kiribati:South Tarawa;Kosovo:Pristina;Kuwait:Kuwait City;Kyrgyzstan:Bishkek;Laos:Vientiane;Latvia:Riga
Lebanon:Beirut;Lesotho:Maseru;Liberia:Monrovia;Libya:Tripoli;Liechtenstein:Vaduz;Lithuania:Vilnius
Luxembourg:Luxembourg City;Madagascar:Antananarivo;Malawi:Lilongwe;Malaysia:Kuala Lumpur
the Maldives:Male;Mali:Bamako;Malta:Valletta;the Marshall Islands:Majuro;Mauritania:Nouakchott
Mauritius:Port Louis;Mexico:Mexico City;Micronesia:Palikir;Moldova:Chisinau;Monaco:Monaco City
Mongolia:Ulaanbaatar;Montenegro:Podgorica;Morocco:Rabat;Mozambique:Maputo;Myanmar:Naypyidaw
Namibia:Windhoek;Nauru:Yaren;Nepal:Kathmandu;the Netherlands:Amsterdam;New Zealand:Wellington
Nicaragua:Managua;Niger:Niamey;Nigeria:Abuja;North Korea:Pyongyang;North Macedonia:Skopje;Norway:Oslo
Oman:Muscat;Pakistan:Islamabad;Palau:Ngerulmud;Panama:Panama City;Papua New Guinea:Port Moresby
Paraguay:Asuncion;Peru:Lima;the Philippines:Manila;Poland:Warsaw;Portugal:Lisbon;Qatar:Doha
the Republic of the Congo:Brazzaville;Romania:Bucharest;Russia:Moscow;Rwanda:Kigali
Saint Kitts and Nevis:Basseterre;Saint Lucia:Castries;Saint Vincent and the Grenadines:Kingstown
Samoa:Apia;San Marino:San Marino City;Sao Tome and Principe:Sao Tome;Saudi Arabia:Riyadh;Senegal:Dakar
Serbia:Belgrade;Seychelles:Victoria;Sierra Leone:Freetown;Singapore:Singapore City;Slovakia:Bratislava
Slovenia:Ljubljana;the Solomon Islands:Honiara;Somalia:Mogadishu;South Africa:Pretoria;South Korea:Seoul
South Sudan:Juba;Spain:Madrid;Sri Lanka:Sri Jayawardenepura Kotte;Sudan:Khartoum;Suriname:Paramaribo
Sweden:Stockholm;Switzerland:Bern;Syria:Damascus;Taiwan:Taipei;Tajikistan:Dushanbe;Tanzania:Dodoma
Thailand:Bangkok;Togo:Lome;Tonga:Nuku'alofa;Trinidad and Tobago:Port of Spain;Tunisia:Tunis
Turkey:Ankara;Turkmenistan:Ashgabat;Tuvalu:Funafuti;Uganda:Kampala;Ukraine:Kyiv
the United Arab Emirates:Abu Dhabi;the United Kingdom:London;the United States:Washington, D.C.
Uruguay:Montevideo;Uzbekistan:Tashkent;Vanuatu:Port Vila;the Vatican:Vatican City;Venezuela:Caracas
Vietnam:Hanoi;Yemen:Sanaa;Zambia:Lusaka;Zimbabwe:Harare
""".strip().replace("\n", ";").split(";")
)

# (thing asked for, answer word, sentence); the questions are made from the thing.
GENERAL = [
    ("the largest ocean on Earth", "Pacific", "The largest ocean on Earth is the Pacific Ocean."),
    ("the smallest ocean on Earth", "Arctic", "The smallest ocean on Earth is the Arctic Ocean."),
    ("the largest planet in the solar system", "Jupiter", "The largest planet in the solar system is Jupiter."),
    ("the smallest planet in the solar system", "Mercury", "The smallest planet in the solar system is Mercury."),
    ("the planet closest to the Sun", "Mercury", "The planet closest to the Sun is Mercury."),
    ("the red planet", "Mars", "The red planet is Mars."),
    ("the planet with the big rings", "Saturn", "The planet with the big rings is Saturn."),
    ("the largest continent", "Asia", "The largest continent is Asia."),
    ("the smallest continent", "Australia", "The smallest continent is Australia."),
    ("the coldest continent", "Antarctica", "The coldest continent is Antarctica."),
    ("the highest mountain on Earth", "Everest", "The highest mountain on Earth is Mount Everest."),
    ("the longest river in South America", "Amazon", "The longest river in South America is the Amazon."),
    ("the longest river in Africa", "Nile", "The longest river in Africa is the Nile."),
    ("the largest hot desert", "Sahara", "The largest hot desert is the Sahara."),
    ("the largest country by area", "Russia", "The largest country by area is Russia."),
    ("the smallest country in the world", "Vatican", "The smallest country in the world is Vatican City."),
    ("the largest animal", "blue whale", "The largest animal is the blue whale."),
    ("the tallest animal", "giraffe", "The tallest animal is the giraffe."),
    ("the fastest land animal", "cheetah", "The fastest land animal is the cheetah."),
    ("the largest bird", "ostrich", "The largest bird is the ostrich."),
    ("the first month of the year", "January", "The first month of the year is January."),
    ("the last month of the year", "December", "The last month of the year is December."),
    ("the shortest month of the year", "February", "The shortest month of the year is February."),
    ("the star closest to Earth", "Sun", "The star closest to Earth is the Sun."),
    ("the hardest natural material", "diamond", "The hardest natural material is diamond."),
    ("the lightest element", "hydrogen", "The lightest element is hydrogen."),
    ("the chemical symbol for gold", "Au", "The chemical symbol for gold is Au."),
    ("the chemical symbol for iron", "Fe", "The chemical symbol for iron is Fe."),
    ("the chemical formula of water", "H2O", "The chemical formula of water is H2O."),
    ("the gas that plants take in", "carbon dioxide", "The gas that plants take in is carbon dioxide."),
    ("the gas that we need to breathe", "oxygen", "The gas that we need to breathe is oxygen."),
    ("the boiling point of water", "100", "The boiling point of water is 100 degrees Celsius."),
    ("the freezing point of water", "0 degrees", "The freezing point of water is 0 degrees Celsius."),
    ("the number of days in a week", "seven", "The number of days in a week is seven."),
    ("the number of months in a year", "twelve", "The number of months in a year is twelve."),
    ("the number of hours in a day", "24", "The number of hours in a day is 24."),
    ("the number of minutes in an hour", "60", "The number of minutes in an hour is 60."),
    ("the number of legs of a spider", "eight", "The number of legs of a spider is eight."),
    ("the number of legs of an insect", "six", "The number of legs of an insect is six."),
    ("the number of sides of a triangle", "three", "The number of sides of a triangle is three."),
    ("the color of the sky on a clear day", "blue", "The color of the sky on a clear day is blue."),
    ("the color of grass", "green", "The color of grass is green."),
    ("the color of snow", "white", "The color of snow is white."),
    ("the color of a ripe banana", "yellow", "The color of a ripe banana is yellow."),
    ("the author of Hamlet", "Shakespeare", "The author of Hamlet is William Shakespeare."),
    ("the author of Don Quixote", "Cervantes", "The author of Don Quixote is Miguel de Cervantes."),
    ("the painter of the Mona Lisa", "Leonardo", "The painter of the Mona Lisa is Leonardo da Vinci."),
    ("the currency of Japan", "yen", "The currency of Japan is the yen."),
    ("the currency of the United Kingdom", "pound", "The currency of the United Kingdom is the pound."),
    ("the currency of Germany", "euro", "The currency of Germany is the euro."),
    ("the currency of the United States", "dollar", "The currency of the United States is the dollar."),
    ("the language spoken in Brazil", "Portuguese", "The language spoken in Brazil is Portuguese."),
    ("the language spoken in Austria", "German", "The language spoken in Austria is German."),
    ("the language spoken in Mexico", "Spanish", "The language spoken in Mexico is Spanish."),
]

# Questions with a form of their own: a list of phrasings (the last is held out),
# the word that must appear, the answer.
SPECIAL = [
    (["What are LLM models?", "What is an LLM?", "Explain what LLMs are.", "What are LLMs?", "What does LLM mean?",
      "Tell me about large language models.", "What are large language models?", "Describe an LLM."],
     "language", "LLM models are large language models: neural networks trained on text to predict the next word."),
    (["What is Hearthd?", "Tell me about Hearthd.", "Explain Hearthd.", "What does Hearthd do?", "Describe Hearthd.",
      "What is Hearthd for?", "Can you explain what Hearthd is?", "Please tell me what Hearthd is."],
     "service", "Hearthd is a service that runs language models on the small computer in the house."),
    (["Who are you?", "What are you?", "Tell me who you are.", "What is your name?", "Introduce yourself.",
      "Are you an assistant?", "Say who you are.", "Please tell me who you are."],
     "demo model", "I am the demo model of Hearthd, a very small language model for trying it out."),
    (["Is Hearthd private?", "Does Hearthd use the network?", "Does my data leave the house?",
      "Does Hearthd send data to the cloud?", "Is my data safe with Hearthd?", "Is Hearthd safe?",
      "Is Hearthd really private?"],
     "private", "Hearthd is private: the service has no network, so nothing leaves the house."),
    (["How do I talk to Hearthd?", "How can I use Hearthd?", "How do programs reach Hearthd?",
      "How do I reach Hearthd?", "How can programs talk to Hearthd?", "How can I talk to Hearthd?"],
     "D-Bus", "Programs reach Hearthd over D-Bus or a Unix socket, and people with hearthctl chat."),
    (["What does Hearthd do when it gets hot?", "What happens when the board gets hot?",
      "What if the board is too hot?", "What does Hearthd do when the board is hot?",
      "What happens if the board gets too hot?"],
     "fewer threads", "When the board gets hot, Hearthd uses fewer threads and says why."),
    (["What can you do?", "What do you know?", "How can you help me?", "What can I ask you?", "Help me.",
      "Can you help me?", "What can you help me with?"],
     "capitals", "I know the capitals of the world, some facts, small sums and house commands."),
    (["Hello!", "Hi!", "Hey there.", "Good morning.", "Hello there!", "Hi there!", "Good evening.", "Hello."],
     "Hello", "Hello! How can I help you?"),
    (["Thank you!", "Thanks.", "Thanks a lot!", "Thank you very much.", "Many thanks.", "Thanks!", "Thank you."],
     "welcome", "You are welcome."),
    (["What is the opposite of hot?", "What's the opposite of hot?", "Tell me the opposite of hot.",
      "Name the opposite of hot.", "Which word is the opposite of hot?"],
     "cold", "The opposite of hot is cold."),
]

ROOMS = ["kitchen", "bedroom", "living room", "bathroom", "hallway", "garage", "office", "garden"]
SWITCHES = ["light", "lamp", "fan", "heater", "radio"]
COVERS = ["blinds", "curtains"]

FILLER = """you are a friendly helper in a quiet house near the sea . the family likes short answers and
clear words . be polite and brief when someone asks a question about the day or the weather . the time is
early and the kitchen is warm . there are many devices in the rooms and each has a name . do not guess when
you are not sure about a thing . the garden needs water in summer and the windows are closed at night . use
plain words and no lists . answer in one sentence . people here speak english and like music after dinner .
lights go off when everyone sleeps . the board is small and sits beside the door""".split()
